(function () {
  "use strict";
  const narrow = window.matchMedia("(max-width: 700px)");
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const figures = Array.from(document.querySelectorAll(".plot"));
  const config = {
    "responsive": true, "displaylogo": false,
    "modeBarButtonsToRemove": ["select2d", "lasso2d", "autoScale2d", "sendDataToCloud"],
  };

  function axes(layout, letter) {
    const pattern = new RegExp("^" + letter + "axis([0-9]*)$");
    const number = (name) => Number(pattern.exec(name)[1] || 1);
    return Object.keys(layout).filter((name) => pattern.test(name))
      .sort((a, b) => number(a) - number(b));
  }

  function colour(layout) {
    const style = getComputedStyle(document.documentElement);
    const [text, soft, line] = ["--text", "--soft", "--line"].map(
      (name) => style.getPropertyValue(name).trim());
    const clear = "rgba(0,0,0,0)";
    Object.assign(layout, {"paper_bgcolor": clear, "plot_bgcolor": clear});
    layout.font = Object.assign({}, layout.font, {"color": text});
    layout.modebar = {"bgcolor": clear, "color": soft, "activecolor": text};
    for (const name of axes(layout, "x").concat(axes(layout, "y"))) {
      Object.assign(layout[name], {"gridcolor": line, "zerolinecolor": line});
      if (layout[name].type === "log") layout[name].nticks = 4;
    }
    for (const note of layout.annotations || []) {
      note.font = Object.assign({}, note.font, {"color": text});
    }
  }

  // Panels side by side become panels below each other where there is no room.
  function stack(layout) {
    const x = axes(layout, "x"), y = axes(layout, "y"), panels = x.length;
    layout.legend = Object.assign({}, layout.legend, {
      "orientation": "h", "x": 0, "xanchor": "left", "y": 1.02, "yanchor": "bottom",
    });
    if (panels < 2 || y.length !== panels) return;
    const room = 80, each = 240, inner = panels * (each + room) - room;
    layout.height = inner + layout.margin.t + layout.margin.b + 40;
    for (let index = 0; index < panels; index++) {
      const top = 1 - index * (each + room) / inner;
      layout[x[index]].domain = [0, 1];
      layout[y[index]].domain = [Math.max(0, top - each / inner), top];
      if ((layout.annotations || []).length === panels) {
        Object.assign(layout.annotations[index], {"x": 0.5, "y": top});
      }
    }
    layout.legend.y = 1 + 24 / inner;
  }

  function lower(data, layout) {
    for (const trace of data) {
      const holder = trace.type === "contour" ? trace : trace.marker;
      if (!holder || !holder.colorbar) continue;
      layout.height = (layout.height || 480) + 60;
      Object.assign(holder.colorbar, {
        "orientation": "h", "x": 0.5, "xanchor": "center", "y": -0.2, "yanchor": "top",
        "thickness": 12, "len": 1,
      });
      holder.colorbar.title = Object.assign({}, holder.colorbar.title, {"side": "top"});
    }
  }

  function draw(figure) {
    if (!figure.offsetParent) return Promise.resolve();
    const {data, layout} = JSON.parse(figure.nextElementSibling.textContent);
    colour(layout);
    if (narrow.matches) {
      stack(layout);
      if (!figure.classList.contains("panorama")) lower(data, layout);
    }
    figure.style.height = (layout.height || 480) + "px";
    return window.Plotly.react(figure, data, layout, config);
  }

  // What is on the screen first, and then one figure at a time, so that the page can be used.
  function all() {
    const near = (figure) => figure.getBoundingClientRect().top < window.innerHeight;
    const later = figures.filter((figure) => !near(figure));
    figures.filter(near).forEach(draw);
    (function next() {
      if (later.length) draw(later.shift()).then(() => setTimeout(next));
      else performance.mark("drawn");
    })();
  }

  narrow.addEventListener("change", all);
  dark.addEventListener("change", all);
  document.querySelectorAll("details").forEach((fold) => {
    fold.addEventListener("toggle", () => { if (fold.open) all(); });
  });
  window.addEventListener("beforeprint", () => {
    document.querySelectorAll("details").forEach((fold) => { fold.open = true; });
    figures.forEach(draw);
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
