"""The style of a report's page: one column on a telephone, light or dark as the reader's screen."""

CSS = """
:root{color-scheme:light dark;--bg:#f6f7f9;--card:#fff;--ink:#1b1f27;--soft:#5b6472;--line:#e1e5ea;
--accent:#2563eb;--accent-soft:#dbe7fd;--warm:#c2410c;--good:#15803d;--bad:#b91c1c;--warn:#a16207;
--hit:37,99,235;--miss:220,90,40;--shade-ink:#fff}
@media (prefers-color-scheme:dark){:root{--bg:#0f1217;--card:#181c23;--ink:#e7eaf0;--soft:#98a2b3;
--line:#2a303a;--accent:#7aa7ff;--accent-soft:#22304d;--warm:#fb923c;--good:#4ade80;--bad:#f87171;
--warn:#facc15;--hit:96,150,255;--miss:240,120,60;--shade-ink:#0b0e13}}
*{box-sizing:border-box}
html{-webkit-text-size-adjust:100%}
body{margin:0;background:var(--bg);color:var(--ink);
font:16px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",sans-serif}
main,header,footer{max-width:1120px;margin:0 auto;padding:0 16px}
header{padding-top:32px}
h1{font-size:1.6rem;line-height:1.25;margin:0 0 4px;overflow-wrap:anywhere}
h2{font-size:1.15rem;margin:0 0 4px}
h3{font-size:.95rem;margin:20px 0 6px}
p{margin:0 0 12px}
a{color:var(--accent)}
bdi{overflow-wrap:anywhere;unicode-bidi:isolate}
.soft,.note{color:var(--soft)}
.note{font-size:.9rem;max-width:72ch}
nav{display:flex;gap:4px 16px;flex-wrap:wrap;margin:16px 0 20px;font-size:.9rem}
nav a{text-decoration:none;padding:4px 0}
section{background:var(--card);border:1px solid var(--line);border-radius:12px;padding:20px;
margin:0 0 16px;scroll-margin-top:12px}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(150px,1fr));gap:12px;
margin:0 0 16px;padding:0;list-style:none}
.tiles li{background:var(--card);border:1px solid var(--line);border-radius:12px;padding:14px 16px}
.tiles b{display:block;font-size:1.6rem;line-height:1.2;font-weight:650;
font-variant-numeric:tabular-nums}
.tiles span{display:block;font-size:.82rem;color:var(--soft)}
.charts{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(300px,100%),1fr));gap:20px}
figure{margin:0;min-width:0}
figcaption{font-size:.88rem;color:var(--soft);margin-bottom:4px}
figcaption b{color:var(--ink)}
.chart{width:100%;max-width:460px;height:auto;display:block}
.chart text{font-size:11px;fill:var(--soft)}
.chart text.kept,.chart text.stop{font-weight:600}
.chart text.kept{fill:var(--good)}.chart text.stop{fill:var(--warm)}
.grid{stroke:var(--line);stroke-width:1}
.line{fill:none;stroke-width:2;stroke-linejoin:round;stroke:var(--accent)}
.line.faint{stroke-width:1;opacity:.35}
.line.test{stroke:var(--warm)}.dot.test{fill:var(--warm)}
.dot.final{fill:var(--good);stroke:var(--card);stroke-width:1.5}
.dot.point{fill:var(--accent);opacity:.55}
.mark{stroke:var(--soft);stroke-dasharray:3 3}
.mark.kept{stroke:var(--good)}.mark.stop{stroke:var(--warm)}
.mark.resumed{opacity:.6}
.ideal{stroke:var(--soft);stroke-dasharray:4 3}
.bin.over{fill:var(--warm);opacity:.75}.bin.under{fill:var(--accent);opacity:.75}
.scroll{overflow-x:auto;margin:0 -4px;padding:0 4px 4px}
table{border-collapse:collapse;font-size:.9rem;font-variant-numeric:tabular-nums}
.wide{width:100%}
th{font-weight:600;font-size:.82rem;color:var(--soft);text-align:left;vertical-align:bottom}
th,td{padding:5px 10px 5px 0;border-bottom:1px solid var(--line);overflow:hidden}
h1,.shots li,dd{overflow:hidden}
tbody tr:last-child>*{border-bottom:0}
tbody th{font-size:.9rem;color:var(--ink);font-weight:500;vertical-align:middle;min-width:10em;
max-width:20em}
.n{text-align:right;white-space:nowrap}
td.n{width:1%}.wide th.n,.wide td.n{padding-left:14px}
.bar{width:100%;min-width:56px;max-width:160px;height:6px;display:block}
.rest{fill:var(--line)}.part{fill:var(--accent)}.low .part{fill:var(--warm)}
.barcell{width:24%}
.change{width:300px;height:16px;display:block}
.rail{stroke:var(--line);stroke-width:2}.way{stroke-width:2.5}
.old{fill:var(--card);stroke:var(--soft);stroke-width:1.5}
.better .way{stroke:var(--good)}.better .new,td.better{fill:var(--good);color:var(--good)}
.worse .way{stroke:var(--bad)}.worse .new,td.worse{fill:var(--bad);color:var(--bad)}
.same .new{fill:var(--soft)}
.matrix td,.matrix thead th{width:34px;min-width:34px;height:30px;padding:0 2px;text-align:center;
border:1px solid var(--card)}
.matrix tbody th,.matrix thead th:first-child{position:sticky;left:0;background:var(--card)}
.matrix thead th:first-child{text-align:left;width:auto}
.matrix tbody th{padding-right:10px;min-width:0;border:0;white-space:nowrap;max-width:15em;
overflow:hidden;text-overflow:ellipsis}
.matrix tbody th span{color:var(--soft);display:inline-block;min-width:1.7em}
.matrix td{border-radius:5px;font-size:.82rem}
.matrix td.zero{color:var(--soft);opacity:.45}
SHADES
.shots{display:grid;grid-template-columns:repeat(auto-fill,minmax(150px,1fr));gap:16px 14px;
margin:12px 0 0;padding:0;list-style:none}
.shots img,.thumb img,.blank{width:100%;aspect-ratio:1;object-fit:cover;border-radius:8px;
display:block;background:var(--line)}
.blank{display:flex;align-items:center;justify-content:center;color:var(--soft);font-size:.8rem}
.shots p{margin:6px 0 2px;font-size:.86rem;line-height:1.35}
.shots .path{font-size:.74rem;color:var(--soft);margin-top:4px}
.says{display:grid;grid-template-columns:minmax(0,1fr) auto;gap:0 8px;font-size:.8rem;
line-height:1.35;margin-top:4px}
.says>div{grid-column:1/-1;margin:1px 0 4px}
.says .bar{max-width:none}
.says bdi{overflow:hidden;text-overflow:ellipsis;white-space:nowrap}
.is .part{fill:var(--good)}.not .part{fill:var(--warm)}
.badge{display:inline-block;min-width:5em;text-align:center;font-size:.75rem;font-weight:600;
padding:1px 8px;border-radius:99px;border:1px solid currentColor;margin-right:8px}
.wrong{color:var(--bad)}.warn{color:var(--warn)}.remark{color:var(--soft)}.ok{color:var(--good)}
.finding{border-top:1px solid var(--line);padding:12px 0 4px}
.finding:first-of-type{border-top:0}
.finding p{margin:0 0 6px}
.finding ul{margin:4px 0 8px;padding-left:20px;font-size:.86rem;color:var(--soft)}
.thumbs{display:flex;flex-wrap:wrap;gap:10px;margin:8px 0}
.thumb{display:flex;gap:2px;width:auto}
.thumb img{width:76px;height:76px}
dl{display:grid;grid-template-columns:minmax(96px,200px) minmax(0,1fr);gap:2px 16px;margin:0 0 8px;
font-size:.9rem}
dt{color:var(--soft)}
dd{margin:0;overflow-wrap:anywhere}
details>summary{cursor:pointer;color:var(--accent);font-size:.9rem;padding:8px 0}
.two{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(300px,100%),1fr));gap:8px 32px;
align-items:start}
footer{color:var(--soft);font-size:.82rem;padding-bottom:32px}
@media (max-width:560px){section{padding:16px 14px;border-radius:10px}header{padding-top:20px}
.tiles{grid-template-columns:1fr 1fr;gap:8px}.tiles b{font-size:1.35rem}
.tiles li:first-child{grid-column:1/-1}.shots{grid-template-columns:1fr 1fr}
.barcell,.hide{display:none}table,tbody th,th{font-size:.8rem}tbody th{min-width:7.5em}
th,td{padding-right:4px}.wide th.n,.wide td.n{padding-left:6px}
.matrix td,.matrix thead th{width:28px;min-width:28px;height:28px}.matrix tbody th{max-width:9em}}
@media print{body{background:#fff}nav{display:none}
section{break-inside:avoid-page;border-color:#ccc}}
"""


def _shades() -> str:
    """How dark a cell of the matrix is, in ten steps: right answers in one colour, others in
    another."""
    steps = []
    for step in range(1, 11):
        ink = "color:var(--shade-ink)" if step > 6 else ""
        alpha = f"{0.06 + 0.9 * step / 10:.2f}"
        steps += [
            f".{kind}{step}{{background:rgba(var(--{colour}),{alpha});{ink}}}"
            for kind, colour in (("h", "hit"), ("m", "miss"))
        ]
    return "".join(steps)


def sheet() -> str:
    """The whole style, on one line."""
    return "".join(line.strip() for line in CSS.replace("SHADES", _shades()).splitlines())
