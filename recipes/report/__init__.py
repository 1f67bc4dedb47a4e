"""What people look at: pages, figures and sounds."""
