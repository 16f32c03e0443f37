"""TODO."""

STYLE = """
:root { color-scheme: light dark; --paper: #fff; --card: #f6f7f9; --ink: #1b1f24;
  --soft: #59626d; --edge: #d5dae0; --first: #1c6fb8; --second: #c2410c; --tint: .6; }
@media (prefers-color-scheme: dark) { :root { --paper: #14171b; --card: #1e2329;
  --ink: #e8eaed; --soft: #a3adb8; --edge: #39414a; --first: #6cb2f0; --second: #f59563; } }
* { box-sizing: border-box; }
body { margin: 0; overflow-wrap: break-word; background: var(--paper); color: var(--ink);
  font: 16px/1.5 system-ui, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; }
main, header, footer { max-width: 1120px; margin: auto; padding: 0 16px; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: 1.2em 0 .3em; overflow-wrap: anywhere; }
h2 { font-size: 1.25rem; margin: 2.2em 0 .5em; padding-top: .5em;
  border-top: 1px solid var(--edge); }
h3 { font-size: 1rem; margin: 1.4em 0 .4em; overflow-wrap: anywhere; }
p { max-width: 46em; margin: .5em 0; }
a { color: var(--first); }
nav { display: flex; flex-wrap: wrap; gap: .2em 1em; }
small, .soft { color: var(--soft); font-size: .85rem; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(150px, 1fr)); gap: 12px; }
.tiles div { background: var(--card); border-radius: 8px; padding: 12px 14px; }
.tiles b { display: block; font-size: 1.7rem; line-height: 1.2; font-weight: 600; }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(300px, 100%), 1fr));
  gap: 16px; }
svg { display: block; max-width: 100%; }
svg text { fill: var(--soft); font: 11px system-ui, "DejaVu Sans", sans-serif; }
svg .grid { stroke: var(--edge); stroke-width: 1; }
svg polyline { fill: none; stroke-width: 1.6; stroke-linejoin: round; }
svg .first { stroke: var(--first); } svg circle.first { fill: var(--first); }
svg .second { stroke: var(--second); } svg circle.second { fill: var(--second); }
svg .faint { stroke: var(--first); stroke-opacity: .28; stroke-width: .8; }
svg .halo { stroke-width: 3; }
figure { margin: 0; }
figcaption { font-size: .9rem; overflow-wrap: anywhere; }
.key { display: flex; flex-wrap: wrap; gap: 0 1em; font-size: .8rem; color: var(--soft); }
.key i, .legend i, .swatch { display: inline-block; width: .95em; height: .95em;
  border-radius: 2px; border: 1px solid var(--edge); vertical-align: -.12em;
  margin-right: .4em; flex: none; }
.key i { height: 3px; width: 1.2em; border: 0; vertical-align: .25em; }
.legend { display: flex; flex-wrap: wrap; gap: .15em 1.1em; padding: 0; margin: .6em 0;
  list-style: none; font-size: .85rem; }
.legend li { overflow-wrap: anywhere; } .legend .soft { font-size: inherit; }
.bars { list-style: none; margin: 0; padding: 0; }
.bars.many { columns: 320px; column-gap: 28px; }
.bars li { display: grid; grid-template-columns: minmax(6em, 11em) 1fr 3.9em; gap: .6em;
  align-items: center; break-inside: avoid; padding: 1px 0; font-size: .9rem; }
.many li { font-size: .8rem; grid-template-columns: 8.5em 1fr 3.9em; }
.bars span { overflow-wrap: anywhere; line-height: 1.25; }
.bars b { font-weight: 400; text-align: right; font-variant-numeric: tabular-nums; }
.track { background: var(--card); border-radius: 3px; height: 1em; display: block; }
.track i { display: block; height: 100%; border-radius: 3px; min-width: 1px;
  border: 1px solid var(--edge); }
table { border-collapse: collapse; font-size: .85rem; }
th, td { text-align: left; padding: .2em .7em .2em 0; vertical-align: top;
  border-bottom: 1px solid var(--edge); overflow-wrap: break-word; max-width: 22em; }
th { font-weight: 600; } td.n, th.n { text-align: right; white-space: nowrap;
  font-variant-numeric: tabular-nums; }
.named { display: flex; align-items: baseline; }
.wide { overflow-x: auto; }
details { margin: .8em 0; } summary { cursor: pointer; color: var(--first); }
.matrix { position: relative; overflow: auto; max-height: 88vh; max-width: 100%;
  border: 1px solid var(--edge); border-radius: 6px; width: fit-content; }
.matrix svg { max-width: none; background: var(--paper); }
.matrix .sheet { display: grid; width: max-content; }
.beside { display: flex; flex-wrap: wrap; gap: 0 36px; align-items: flex-start; }
.beside > div { max-width: 100%; min-width: 0; } .beside h3 { margin-top: .3em; }
.corner { position: sticky; left: 0; top: 0; z-index: 3; background: var(--paper); }
.corner svg text { font-size: 10px; }
.top { position: sticky; top: 0; z-index: 2; } .left { position: sticky; left: 0; z-index: 1; }
.matrix svg text { fill: var(--ink); }
.cells { position: relative; background: var(--paper); }
.cells img { width: 100%; height: 100%; display: block; image-rendering: pixelated; }
.cells svg { position: absolute; inset: 0; background: none; pointer-events: none; }
.worst-first { display: none; }
#by-worst:checked ~ .worst-first { display: block; }
#by-worst:checked ~ .in-order { display: none; }
input[type=radio] { margin: 0 .3em 0 0; } label { margin-right: 1.2em; font-size: .9rem; }
#tip { position: fixed; z-index: 9; pointer-events: none; background: var(--ink);
  color: var(--paper); padding: .25em .6em; border-radius: 4px; font-size: .8rem;
  max-width: min(20em, 90vw); }
.example { break-inside: avoid; margin: 0 0 1.4em; }
.panels { display: grid; grid-template-columns: repeat(4, 1fr); gap: 6px; margin-top: .3em; }
.panel { position: relative; background-size: 100% 100%; border-radius: 4px; overflow: hidden;
  print-color-adjust: exact; }
.panel img { position: absolute; inset: 0; width: 100%; height: 100%; opacity: var(--tint);
  image-rendering: pixelated; }
.panel.wrong img { opacity: 1; }
.panel.wrong::before { content: ""; position: absolute; inset: 0; background: inherit;
  filter: grayscale(1) contrast(.5) brightness(1.15); }
.panels small { display: block; line-height: 1.3; }
.stack { display: flex; height: 26px; border-radius: 5px; overflow: hidden; margin: .8em 0; }
.stack i { display: block; min-width: 0; }
.group { break-inside: avoid; margin: 1.6em 0; }
.group h3 { margin-bottom: .1em; } .group p { margin: .2em 0 .5em; }
.swatch, .legend i, .stack i, .track i, .key i { print-color-adjust: exact; }
input[type=range] { vertical-align: middle; width: 10em; }
dl { columns: 380px; column-gap: 28px; font-size: .85rem; margin: .4em 0; }
dl div { display: grid; grid-template-columns: 13em 1fr; gap: 1em; break-inside: avoid; }
dt { color: var(--soft); overflow-wrap: anywhere; } dd { margin: 0; overflow-wrap: anywhere; }
footer { margin-top: 3em; padding-bottom: 2em; }
@media (max-width: 640px) {
  .panels { grid-template-columns: repeat(2, 1fr); }
  .bars li { grid-template-columns: 7em 1fr 3.9em; }
  dl div { grid-template-columns: 10em 1fr; } }
@media print {
  :root { color-scheme: light; --paper: #fff; --card: #f0f1f3; --ink: #000; --soft: #444;
    --edge: #bbb; --first: #1c6fb8; --second: #c2410c; }
  body { font-size: 11pt; } main { max-width: none; } nav, .control { display: none; }
  .matrix { max-height: none; overflow: visible; border: 0; }
  .matrix .sheet { zoom: var(--fit); }
  .corner, .top, .left { position: static; }
  h2, h3 { break-after: avoid; } .matrix, tr, .charts figure { break-inside: avoid; } }
"""


SCRIPT = """
const tip = document.getElementById("tip");
const count = value => value.toLocaleString("en").replaceAll(",", "\\u202f");
for (const slider of document.querySelectorAll("input[type=range]"))
  slider.oninput = () => document.documentElement.style.setProperty("--tint", slider.value);
const data = document.getElementById("confusion");
if (data) {
  const { names, columns, counts } = JSON.parse(data.textContent);
  const totals = counts.map(row => row.reduce((sum, value) => sum + value, 0));
  for (const cells of document.querySelectorAll(".cells")) {
    const order = JSON.parse(cells.dataset.order);
    cells.onpointermove = event => {
      const box = cells.getBoundingClientRect();
      const place = (offset, length, parts) =>
        Math.min(parts - 1, Math.max(0, Math.floor(offset / length * parts)));
      const row = order[place(event.clientY - box.top, box.height, names.length)];
      const x = place(event.clientX - box.left, box.width, columns.length);
      const column = x < names.length ? order[x] : x;
      const share = totals[row] ? (100 * counts[row][column] / totals[row]).toFixed(1) : "0.0";
      tip.textContent = row === column
        ? `${names[row]}: ${share} % right (${count(counts[row][column])} pixels)`
        : `${names[row]} taken for ${columns[column]}: ${share} % of ${names[row]} ` +
          `(${count(counts[row][column])} pixels)`;
      tip.hidden = false;
      tip.style.left = Math.max(4, Math.min(event.clientX + 14,
        innerWidth - tip.offsetWidth - 4)) + "px";
      const above = event.clientY - tip.offsetHeight - 10;
      tip.style.top = (above > 4 ? above : event.clientY + 16) + "px";
    };
    cells.onpointerdown = cells.onpointermove;
    cells.onpointerleave = () => { tip.hidden = true; };
  }
}
"""


# Nothing but what the file holds: no request leaves the page, whatever a name contains.
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"
