const tip = document.getElementById("tip");
const count = value => value.toLocaleString("en").replaceAll(",", "\u202f");
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
        ? `${names[row]}: ${share} % correct (${count(counts[row][column])} pixels)`
        : `${names[row]} predicted as ${columns[column]}: ${share} % of ${names[row]} ` +
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
