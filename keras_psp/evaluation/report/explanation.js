{
  const { names, colors, levels, examples } =
    JSON.parse(document.getElementById("explanations").textContent);
  const decoded = text => Uint8Array.from(atob(text), letter => letter.charCodeAt(0)).buffer;
  const signed = value => (value < 0 ? "\u2212" : "+") + Math.abs(value).toFixed(2);
  const nearest = (places, value) => places.reduce(
    (best, place, index) => Math.abs(place - value) < Math.abs(places[best] - value) ? index : best, 0);
  for (const figure of document.querySelectorAll(".why")) {
    const example = examples[figure.dataset.number];
    const { x, y, step, width, height } = example;
    const cells = x.length * y.length;
    const planes = new (names.length < 256 ? Uint8Array : Uint16Array)(decoded(example.classes));
    const parts = new Int16Array(decoded(example.parts));
    const truthParts = new Int16Array(decoded(example.truth));
    const count = parts.length / cells;
    const at = (plane, cell) => planes[plane * cells + cell];
    // Pixels whose label is neither of the first two classes have a second comparison.
    const isApart = cell => at(2, cell) < names.length && at(2, cell) !== at(0, cell) &&
      at(2, cell) !== at(1, cell);
    const panel = figure.querySelector(".panel"), mark = figure.querySelector(".mark");
    const facts = figure.querySelectorAll(".facts td");
    const tables = figure.querySelectorAll(".parts");
    const swatch = index => {
      const color = document.createElement("i");
      color.className = "swatch";
      color.style.background = colors[index];
      return index < names.length ? [color, names[index]] : ["not labeled"];
    };
    const fill = (table, predicted, other, kind, values, largest) => {
      table.hidden = !values;
      if (!values) return;
      table.caption.firstElementChild.textContent = `Why ${names[predicted]} and not ${names[other]}`;
      table.caption.lastElementChild.textContent = kind;
      const [left, right] = table.querySelectorAll(".sides span");
      left.textContent = `\u2190 ${names[other]}`;
      right.textContent = `${names[predicted]} \u2192`;
      table.querySelectorAll("tbody tr").forEach((row, index) => {
        const value = values[index], length = 50 * Math.abs(value) / largest;
        const bar = row.querySelector("i");
        bar.className = value > 0 ? "for" : "against";
        bar.style.left = `${value < 0 ? 50 - length : 50}%`;
        bar.style.width = `${length}%`;
        row.lastElementChild.textContent = signed(value);
      });
    };
    let cell = example.start;
    const show = chosen => {
      cell = chosen;
      const column = cell % x.length, row = Math.floor(cell / x.length);
      mark.style.left = `${100 * (x[column] + .5) / width}%`;
      mark.style.top = `${100 * (y[row] + .5) / height}%`;
      const [predicted, next, truth, without, level] = [0, 1, 2, 3, 4].map(plane => at(plane, cell));
      const values = (source, number) => {
        const chosenParts = [...source.slice(number * count, (number + 1) * count)].map(v => v * step);
        return [...chosenParts, chosenParts.reduce((sum, value) => sum + value, 0)];
      };
      const first = values(parts, cell);
      let second = null;
      if (isApart(cell)) {
        let number = 0;
        for (let before = 0; before < cell; before++) number += isApart(before);
        second = values(truthParts, number);
      }
      facts[0].textContent = `column ${x[column]}, row ${y[row]}`;
      facts[1].replaceChildren(...swatch(predicted));
      facts[2].replaceChildren(...swatch(truth),
        truth < names.length && truth !== predicted ? ", so the prediction is wrong" : "");
      facts[3].replaceChildren(...swatch(without), level
        ? `: decided by context, most by the ${levels[level - 1]}`
        : ": not decided by context");
      const largest = Math.max(1e-6, ...[...first, ...(second ?? [])].map(Math.abs));
      fill(tables[0], predicted, next,
        "the runner-up" + (truth === next ? " and the label" : ""), first, largest);
      fill(tables[1], predicted, truth, "the label", second, largest);
    };
    const move = (right, down) => {
      const column = cell % x.length + right, row = Math.floor(cell / x.length) + down;
      const within = (place, length) => Math.min(length - 1, Math.max(0, place));
      show(within(row, y.length) * x.length + within(column, x.length));
    };
    const point = event => {
      const box = panel.getBoundingClientRect();
      const column = nearest(x, (event.clientX - box.left) / box.width * width - .5);
      const row = nearest(y, (event.clientY - box.top) / box.height * height - .5);
      show(row * x.length + column);
    };
    panel.onclick = point;
    panel.onpointermove = event => { if (event.pointerType === "mouse" && event.buttons & 1) point(event); };
    panel.onkeydown = event => {
      const steps = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
      if (!(event.key in steps) || event.ctrlKey || event.altKey || event.metaKey) return;
      event.preventDefault();
      move(...steps[event.key].map(length => event.shiftKey ? 5 * length : length));
    };
    panel.tabIndex = 0;
    panel.setAttribute("role", "application");
    panel.setAttribute("aria-roledescription", "image whose pixels can be chosen");
    panel.setAttribute("aria-label", `${panel.getAttribute("aria-label")}; arrow keys choose a pixel`);
  }
}
