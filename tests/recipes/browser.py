"""A real headless browser for the tests of pages: serves a page on this machine, runs a script in it, returns JSON."""

import json
import shutil
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

COMMANDS = ("chromium", "chromium-browser", "google-chrome", "chrome")
COMMAND = next(filter(None, map(shutil.which, COMMANDS)), None)
OPTIONS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-sync",
    "--disable-background-networking",
    "--disable-component-update",
    "--no-first-run",
    "--autoplay-policy=no-user-gesture-required",
)
CATCH = """<script>
window.wrong = [];
addEventListener("error", (event) => wrong.push(String(event.message || event.target.src).slice(0, 200)), true);
addEventListener("unhandledrejection", (event) => wrong.push(String(event.reason)));
</script>"""
RUN = """<script>
const until = async (test) => {
  for (const end = Date.now() + 60000; !test(); await new Promise((done) => setTimeout(done, 10)))
    if (Date.now() > end) throw Error(`never came: ${test}`);
};
const click = (where) => document.querySelector(where).click();
const set = (where, value) => {
  const one = document.querySelector(where);
  one.type === "checkbox" ? (one.checked = value) : (one.value = value);
  one.dispatchEvent(new Event("input", { bubbles: true }));
};
(async () => {
  let found;
  try { found = await (async () => { %s })(); } catch (error) { wrong.push(String(error)); }
  await fetch("/found", { method: "POST", body: JSON.stringify({ found, wrong }) });
})();
</script>"""
FRAME = '<iframe src="/page" style="width: %dpx; height: 700px; border: 0"></iframe>'


def run(page: bytes, script: str, folder: Path, width: int = 1000) -> object:
    """What the body of an async function returns in the loaded page, in a frame of `width` pixels.

    Asserts that the page met no error and asked for nothing but itself.
    """
    served = page.replace(b"<head>", b"<head>" + CATCH.encode(), 1)
    served = served.replace(b"</body>", (RUN % script).encode() + b"</body>", 1)
    asked, told, ready = [], [], threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            self.reply({"/page": served, "/": (FRAME % width).encode()}.get(self.path, b""))

        def do_POST(self):
            told.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.reply(b"")
            ready.set()

        def reply(self, content: bytes):
            self.send_response(200)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *given):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}/"
        command = [COMMAND, *OPTIONS, f"--user-data-dir={folder / 'chromium'}", f"--window-size={width},800", address]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            assert ready.wait(180), "the browser told nothing within three minutes"
        finally:
            process.terminate()
            process.wait()
            server.shutdown()
    assert told[0]["wrong"] == [], told[0]["wrong"]
    assert set(asked) <= {"/", "/page", "/favicon.ico"}, asked
    return told[0]["found"]
