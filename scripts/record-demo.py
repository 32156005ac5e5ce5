#!/usr/bin/env python3
"""Records `make demo` as a picture that plays: docs/demo.svg, and as text: docs/demo.txt.

    scripts/record-demo.py [BROKER]        (default: 2.1; `make record-demo` builds what it needs first)

Runs the demo on a terminal and takes what it prints, letter by letter. Only the pauses are not as they were: each line
stays long enough to be read.
"""
import html, os, pty, re, sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

# In the picture: lines that are seen at a time, letters in a line, and their size in pixels.
LINES, LETTERS, WIDTH, HEIGHT, EDGE = 28, 126, 7.83, 18, 14

# Seconds: before a command and before a step begins, for every other line, and at both ends. The first two steps are there from
# the beginning, for who does not wait, and where pictures do not play.
BEFORE_COMMAND, BEFORE_STEP, EACH_LINE, AT_THE_ENDS = 0.9, 1.6, 0.35, 6.0

# What the demo's colours mean, and their classes in the picture.
CLASSES = {"1": "bold", "2": "dim", "31": "red", "32": "green"}

STYLE = """
text { font: 13px ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace; fill: #1f2328; white-space: pre; }
.paper, .curtain { fill: #ffffff; }
.paper { stroke: #d1d9e0; }
.bold { font-weight: 600; }
.dim { fill: #59636e; }
.green { fill: #116329; }
.red { fill: #a40e26; }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3; }
  .paper, .curtain { fill: #0d1117; }
  .paper { stroke: #3d444d; }
  .dim { fill: #9198a1; }
  .green { fill: #56d364; }
  .red { fill: #ff7b72; }
}
.scroll { animation: scroll %(seconds)ss step-end infinite; }
.curtain { animation: curtain %(seconds)ss step-end infinite; }
@media (prefers-reduced-motion: reduce) {
  .scroll, .curtain { animation: none; }
  .curtain { visibility: hidden; }
}
"""


def record(broker):
    """The lines that the demo prints, with their escape sequences. The demo must succeed."""
    process, terminal = pty.fork()
    if process == 0:
        os.environ.pop("NO_COLOR", None)
        os.execv(os.path.join(ROOT, "scripts/demo.sh"), ["scripts/demo.sh", broker])
    output = b""
    while True:
        try:
            piece = os.read(terminal, 65536)
        except OSError:  # the other end is closed
            break
        if not piece:
            break
        output += piece
    status = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    if status != 0:
        sys.exit(f"record-demo: error: the demo ended with {status}:\n" + output.decode())
    return output.decode().replace("\r\n", "\n").strip("\n").split("\n")


def plain(line):
    return re.sub(r"\x1b\[[0-9;]*m", "", line)


def wrapped(line):
    """A line as the lines of the picture, each a list of (text, classes)."""
    rows, row, column, classes = [], [], 0, set()
    for part in re.split(r"(\x1b\[[0-9;]*m)", line):
        if part.startswith("\x1b"):
            for code in part[2:-1].split(";"):
                classes = classes | {CLASSES[code]} if code in CLASSES else set()
            continue
        while part:
            piece, part = part[:LETTERS - column], part[LETTERS - column:]
            row.append((piece, " ".join(sorted(classes))))
            column += len(piece)
            if part:
                rows.append(row)
                row, column = [(" " * 12, "")], 12
    return rows + [row]


def pause_before(line):
    text = plain(line)
    if re.match(r"(\d+\.|===|demo:) ", text):
        return BEFORE_STEP
    return BEFORE_COMMAND if text.startswith("  $ ") else EACH_LINE


def drawn(lines):
    rows, shown_from = [], []  # the lines of the picture, and when each is there
    now = 0.0
    third_step = next(number for number, line in enumerate(lines) if plain(line).startswith("3. "))
    for number, line in enumerate(lines):
        if number == third_step:
            now = AT_THE_ENDS
        elif number > third_step:
            now += pause_before(line)
        for row in wrapped(line):
            rows.append(row)
            shown_from.append(now)
    seconds = now + AT_THE_ENDS
    percent = lambda moment: f"{100 * moment / seconds:.3f}%"

    scroll, curtain = ["0% { transform: translateY(0); }"], []
    at_first = shown_from.count(0.0)
    for number, moment in enumerate(shown_from, 1):
        if number < len(shown_from) and shown_from[number] == moment:
            continue
        curtain.append(f"{percent(moment)} {{ transform: translateY({number * HEIGHT}px); }}")
        if number > LINES:
            scroll.append(f"{percent(moment)} {{ transform: translateY({(LINES - number) * HEIGHT}px); }}")

    width, height = round(LETTERS * WIDTH + 2 * EDGE), LINES * HEIGHT + 2 * EDGE
    svg = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img">',
           "<title>make demo: what a broker, its clients and the API say, step by step</title>",
           "<style>" + STYLE % {"seconds": round(seconds, 1)},
           "@keyframes scroll { " + " ".join(scroll) + " }",
           "@keyframes curtain { " + " ".join(curtain) + " }", "</style>",
           f'<rect class="paper" x="0.5" y="0.5" width="{width - 1}" height="{height - 1}" rx="8"/>',
           f'<svg x="{EDGE}" y="{EDGE}" width="{width - 2 * EDGE}" height="{height - 2 * EDGE}"><g class="scroll">']
    for number, row in enumerate(rows):
        spans = "".join(f'<tspan class="{classes}">{html.escape(text)}</tspan>' if classes else html.escape(text)
                        for text, classes in row if text)
        if spans:
            svg.append(f'<text x="0" y="{number * HEIGHT + 13}" xml:space="preserve">{spans}</text>')
    # It is moved as well for programs that draw the picture without playing it.
    svg.append(f'<rect class="curtain" transform="translate(0 {at_first * HEIGHT})" width="{width}" '
               f'height="{(len(rows) + LINES) * HEIGHT}"/>')
    svg += ["</g></svg>", "</svg>"]
    return "\n".join(svg) + "\n"


lines = record(sys.argv[1] if len(sys.argv) > 1 else "2.1")
for file, text in (("demo.svg", drawn(lines)), ("demo.txt", "\n".join(map(plain, lines)) + "\n")):
    with open(os.path.join(ROOT, "docs", file), "w", encoding="utf-8") as target:
        target.write(text)
