"""List the commands and the tools: python -m recipes"""

from recipes.config.catalog import overview_of_tools

if __name__ == "__main__":
    print(overview_of_tools(), end="")
