(function () {
  "use strict";
  const narrow = window.matchMedia("(max-width: 700px)");
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const figures = Array.from(document.querySelectorAll(".js-plotly-plot"));
  const wide = new Map();

  function axes(figure, letter) {
    const names = Object.keys(figure._fullLayout);
    return names.filter((name) => new RegExp("^" + letter + "axis[0-9]*$").test(name));
  }

  function colours(figure) {
    const style = getComputedStyle(document.documentElement);
    const text = style.getPropertyValue("--text").trim();
    const line = style.getPropertyValue("--line").trim();
    const change = {
      "paper_bgcolor": "rgba(0,0,0,0)", "plot_bgcolor": "rgba(0,0,0,0)", "font.color": text,
    };
    for (const name of axes(figure, "x").concat(axes(figure, "y"))) {
      change[name + ".gridcolor"] = line;
      change[name + ".zerolinecolor"] = line;
    }
    return change;
  }

  // Panels side by side become panels below each other where there is no room.
  function places(figure) {
    const layout = figure._fullLayout;
    const x = axes(figure, "x"), y = axes(figure, "y");
    if (!wide.has(figure)) {
      const before = {"height": layout.height, "legend.orientation": layout.legend ? layout.legend.orientation : "v"};
      before["legend.x"] = layout.legend ? layout.legend.x : 1.02;
      before["legend.y"] = layout.legend ? layout.legend.y : 1;
      before["legend.yanchor"] = layout.legend ? layout.legend.yanchor : "auto";
      for (const name of x.concat(y)) before[name + ".domain"] = layout[name].domain.slice();
      (figure.layout.annotations || []).forEach((note, index) => {
        before["annotations[" + index + "].x"] = note.x;
        before["annotations[" + index + "].y"] = note.y;
      });
      wide.set(figure, before);
    }
    if (!narrow.matches) return wide.get(figure);
    const change = {
      "legend.orientation": "h", "legend.x": 0, "legend.y": 1.02, "legend.yanchor": "bottom",
    };
    const panels = x.length;
    if (panels > 1 && y.length === panels) {
      const room = 95, each = 240, height = panels * (each + room) + 120;
      change["height"] = height;
      const inner = height - 110;
      for (let index = 0; index < panels; index++) {
        const top = 1 - index * (each + room) / inner;
        change[x[index] + ".domain"] = [0, 1];
        change[y[index] + ".domain"] = [Math.max(0, top - each / inner), top];
        if ((figure.layout.annotations || []).length === panels) {
          change["annotations[" + index + "].x"] = 0.5;
          change["annotations[" + index + "].y"] = top;
        }
      }
      change["legend.y"] = 1 + 24 / inner;
    }
    return change;
  }

  function lay(figure) {
    if (!figure._fullLayout || !figure.offsetParent) return;
    const change = Object.assign(colours(figure), places(figure));
    if (change.height) figure.style.height = figure.parentElement.style.height = change.height + "px";
    window.Plotly.relayout(figure, change)
      .then(() => window.Plotly.Plots.resize(figure));
  }

  const all = () => figures.forEach(lay);
  narrow.addEventListener("change", all);
  dark.addEventListener("change", all);
  document.querySelectorAll("details").forEach((d) => d.addEventListener("toggle", all));
  window.addEventListener("beforeprint", () => {
    document.querySelectorAll("details").forEach((d) => { d.open = true; });
  });
  all();

  function key(text) {
    const number = Number(text.replace(/,/g, ""));
    return text.trim() !== "" && Number.isFinite(number) ? number : text;
  }

  function sort(table, column, head) {
    const up = head.getAttribute("aria-sort") !== "ascending";
    const rows = Array.from(table.tBodies[0].rows);
    rows.sort((a, b) => {
      const one = key(a.cells[column].textContent), other = key(b.cells[column].textContent);
      if (typeof one !== typeof other) return typeof one === "number" ? -1 : 1;
      const order = one < other ? -1 : one > other ? 1 : 0;
      return up ? order : -order;
    });
    rows.forEach((row) => table.tBodies[0].appendChild(row));
    table.querySelectorAll("th").forEach((th) => th.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", up ? "ascending" : "descending");
  }

  document.querySelectorAll("table.sortable").forEach((table) => {
    table.querySelectorAll("th").forEach((head, column) => {
      head.tabIndex = 0;
      head.setAttribute("role", "columnheader");
      head.addEventListener("click", () => sort(table, column, head));
      head.addEventListener("keydown", (event) => {
        if (event.key !== "Enter" && event.key !== " ") return;
        event.preventDefault();
        sort(table, column, head);
      });
    });
  });

  function csv(table) {
    const quoted = (text) => "\"" + text.replace(/"/g, "\"\"") + "\"";
    return Array.from(table.rows)
      .map((row) => Array.from(row.cells).map((cell) => quoted(cell.textContent)).join(","))
      .join("\r\n");
  }

  document.querySelectorAll("button[data-csv]").forEach((button) => {
    button.addEventListener("click", () => {
      const text = csv(document.getElementById(button.dataset.csv));
      const link = document.createElement("a");
      link.href = URL.createObjectURL(new Blob([text], {type: "text/csv"}));
      link.download = button.dataset.csv + ".csv";
      link.click();
      URL.revokeObjectURL(link.href);
    });
  });
})();
