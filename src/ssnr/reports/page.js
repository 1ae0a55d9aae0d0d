// Everything shown is data: text goes in by textContent, never as markup.
(async () => {
  const element = (id) => document.getElementById(id);
  const unpacked = async (id) => {
    const bytes = Uint8Array.from(atob(element(id).textContent), (c) => c.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    return new Response(stream).text();
  };
  const data = JSON.parse(await unpacked("data"));
  const program = document.createElement("script");
  program.textContent = await unpacked("plotly");
  document.head.append(program);

  const count = data.architectures.length;
  const everything = [...Array(count).keys()];
  const state = { benchmark: 0, score: 0, other: Math.min(1, data.scores.length - 1), count: "params", against: "accuracy", shown: everything, selected: null, network: null };
  const plain = (text) => String(text).replaceAll("<", "‹").replaceAll(">", "›"); // Plotly reads some markup
  const short = (value, digits = 5) => value === null || value === undefined ? "–" : Number(value).toPrecision(digits).replace(/\.?0+($|e)/, "$1");
  const measured = data.benchmarks.length > 0, nothing = Array(count).fill(null);
  const accuracy = () => (measured ? data.benchmarks[state.benchmark].accuracy : nothing);
  // What scores stand against: accuracy, or a count where no accuracy is known.
  const level = () => (measured ? { name: "accuracy", label: data.benchmarks[state.benchmark].name, values: accuracy() } : { name: state.count, label: state.count, values: data.counts[state.count] });
  const score = () => data.scores[state.score];

  // --- numbers -----------------------------------------------------------------------------------------------
  const ranks = (values) => { // mean ranks of ties
    const order = values.map((_, i) => i).sort((a, b) => values[a] - values[b]);
    const found = new Float64Array(values.length);
    for (let start = 0; start < order.length;) {
      let end = start;
      while (end < order.length && values[order[end]] === values[order[start]]) end += 1;
      for (let k = start; k < end; k += 1) found[order[k]] = (start + end - 1) / 2;
      start = end;
    }
    return found;
  };
  const spearman = (x, y) => {
    if (x.length < 3) return null;
    const a = ranks(x), b = ranks(y), mean = (x.length - 1) / 2;
    let ab = 0, aa = 0, bb = 0;
    for (let i = 0; i < a.length; i += 1) { ab += (a[i] - mean) * (b[i] - mean); aa += (a[i] - mean) ** 2; bb += (b[i] - mean) ** 2; }
    return aa && bb ? ab / Math.sqrt(aa * bb) : null;
  };
  const both = (x, y, among = state.shown) => among.filter((i) => x[i] !== null && y[i] !== null);

  // --- how plots look ----------------------------------------------------------------------------------------
  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const brief = (text, most) => (text.length > most ? `${text.slice(0, most - 1)}…` : text); // long labels would leave the plot
  const axis = (title, more = {}) => ({ title: { text: plain(brief(title, 40)), font: { size: 12 } }, gridcolor: colour("--line"), zeroline: false, automargin: true, exponentformat: "power", ...more });
  const layout = (title, x, y, more = {}) => ({
    title: { text: plain(title), font: { size: 14 }, x: 0.02, xanchor: "left" }, paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
    font: { color: colour("--text"), size: 12 }, margin: { l: 60, r: 12, t: 36, b: 46 }, xaxis: x, yaxis: y, hovermode: "closest",
    showlegend: false, dragmode: "select", ...more,
  });
  const options = { responsive: true, displaylogo: false, modeBarButtonsToRemove: ["autoScale2d", "toImage"] };
  const spans = (values) => { // a logarithmic axis where all is positive and wide
    let low = Infinity, high = -Infinity;
    for (const v of values) { if (v <= 0) return false; low = Math.min(low, v); high = Math.max(high, v); }
    return high > 1000 * low;
  };
  const told = (i) => {
    const parts = [data.architectures[i], `${score().label} ${short(score().value[i])}`, ...(measured ? [`accuracy ${short(accuracy()[i])}`] : [])];
    for (const name of Object.keys(data.counts)) if (data.counts[name][i] !== null) parts.push(`${name} ${data.counts[name][i].toLocaleString("en")}`);
    return parts.join("\n");
  };
  const points = (among, x, y, more = {}) => ({
    type: "scattergl", mode: "markers", x: among.map((i) => x[i]), y: among.map((i) => y[i]), customdata: among, hoverinfo: "none",
    marker: { size: 4, color: colour("--blue"), opacity: 0.55 }, selectedpoints: state.selected ? among.flatMap((i, at) => (state.selected.has(i) ? [at] : [])) : null,
    selected: { marker: { color: colour("--red"), opacity: 1 } }, unselected: { marker: { opacity: 0.15 } }, ...more,
  });

  // --- plots -------------------------------------------------------------------------------------------------
  const print = { on: false, theme: undefined };
  // A page is printed at once: plots get their size there and then, where the screen would resize them in a moment.
  const draw = (id, traces, page) => Plotly.react(id, traces, print.on ? { ...page, width: element(id).clientWidth, height: element(id).clientHeight } : page, options);
  const range = (values) => values.reduce(([low, high], v) => [Math.min(low, v), Math.max(high, v)], [Infinity, -Infinity]);
  // Where dead networks are far below all others they stand in a strip at the foot of the axis, not to squash the rest.
  const broken = (live, gone) => {
    const [low, high] = range(live), top = range(gone)[1], span = high - low;
    return gone.length && span > 0 && top < low - 0.4 * span ? { foot: low - 0.1 * span, axis: { range: [low - 0.16 * span, high + 0.05 * span] } } : null;
  };
  const strip = (cut, gone) => ({ shapes: [{ type: "rect", xref: "paper", x0: 0, x1: 1, y0: cut.axis.range[0], y1: cut.axis.range[0] + 0.6 * (cut.foot - cut.axis.range[0]) * 2, fillcolor: colour("--line"), opacity: 0.5, line: { width: 0 }, layer: "below" }],
    annotations: [{ xref: "paper", x: 1, xanchor: "right", y: cut.foot, showarrow: false, text: `dead, at ${short(gone[Math.floor(gone.length / 2)], 3)} (axis broken)`, font: { size: 11, color: colour("--quiet") } }] });
  const scatter = () => {
    const s = score(), y = level(), dead = new Set(s.dead), live = both(s.value, y.values).filter((i) => !dead.has(i));
    const gone = state.shown.filter((i) => dead.has(i) && y.values[i] !== null), levels = gone.map((i) => y.values[i]).sort((a, b) => a - b);
    const wide = spans(live.map((i) => s.value[i])), cut = broken(live.map((i) => y.values[i]), levels);
    const rho = spearman(live.concat(gone).map((i) => s.value[i]), live.concat(gone).map((i) => y.values[i]));
    const traces = [points(live, s.value, y.values)];
    const left = gone.length ? 0.07 : 0;
    if (gone.length) traces.push({ ...points(gone, nothing, y.values), x: gone.map(() => "dead"), ...(cut ? { y: gone.map(() => cut.foot) } : {}), xaxis: "x2", marker: { symbol: "x", size: 6, color: colour("--red") } });
    const n = state.network;
    if (n !== null && y.values[n] !== null && !dead.has(n)) traces.push({ x: [s.value[n]], y: [y.values[n]], mode: "markers", hoverinfo: "skip", marker: { size: 13, symbol: "circle-open", color: colour("--red"), line: { width: 2 } } });
    const title = `${s.label} against ${y.name}: ρ ${short(rho, 4)}, n ${(live.length + gone.length).toLocaleString("en")}${gone.length ? `, dead ${gone.length}` : ""}${s.failed.length ? `, failed ${s.failed.length}` : ""}`;
    const x = axis(s.logarithm ? `ln ${s.label}` : s.label, { domain: [left ? left + 0.02 : 0, 1], type: wide ? "log" : "linear" });
    draw("scatter", traces, layout(title, x, axis(y.label, { anchor: "free", position: 0, ...(cut ? cut.axis : {}) }), { ...(cut ? strip(cut, levels) : {}), xaxis2: { domain: [0, left || 0.01], type: "category", visible: Boolean(gone.length), gridcolor: colour("--line"), fixedrange: true, anchor: "y" } }));
  };
  const pareto = () => {
    const s = score(), scored = state.against === "score" || !measured, y = scored ? s.value : accuracy();
    const x = data.counts[state.count], among = both(x, y), sign = scored && !s.larger ? -1 : 1;
    const order = [...among].sort((a, b) => x[a] - x[b] || sign * (y[b] - y[a]));
    const front = []; let best = -Infinity;
    for (const i of order) if (sign * y[i] > best) { best = sign * y[i]; front.push(i); }
    const by = scored ? accuracy() : s.value, known = among.filter((i) => by[i] !== null), place = ranks(known.map((i) => by[i]));
    const shade = new Map(known.map((i, k) => [i, place[k] / Math.max(known.length - 1, 1)]));
    const marker = { size: 4, color: known.map((i) => shade.get(i)), cmin: 0, cmax: 1, colorscale: [[0, colour("--low")], [1, colour("--high")]], opacity: 0.75, showscale: true,
      colorbar: { thickness: 8, tickvals: [0, 1], ticktext: ["low", "high"], title: { text: plain(brief(`rank by ${scored ? "accuracy" : s.label}`, 30)), side: "right", font: { size: 11 } } } };
    const dead = new Set(s.dead), gone = among.filter((i) => dead.has(i)).map((i) => y[i]).sort((a, b) => a - b), live = among.filter((i) => !dead.has(i));
    const cut = scored ? null : broken(live.map((i) => y[i]), gone), name = scored ? s.label : "accuracy";
    const placed = cut ? y.map((v, i) => (dead.has(i) ? cut.foot : v)) : y; // what has no rank is grey
    const shown = [points(known.length ? among.filter((i) => !shade.has(i)) : among, x, placed, { marker: { size: 4, color: colour(known.length ? "--line" : "--blue"), opacity: 0.55 } })];
    if (known.length) shown.push(points(known, x, placed, { marker }));
    const up = scored && spans(live.map((i) => y[i])) && !gone.length ? "log" : "linear";
    draw("pareto", [...shown, { x: front.filter((i) => !cut || !dead.has(i)).map((i) => x[i]), y: front.filter((i) => !cut || !dead.has(i)).map((i) => y[i]), mode: "lines", line: { color: colour("--red"), shape: "hv", width: 1.5 }, hoverinfo: "skip" }],
      layout(`${name} against ${state.count}, and the front`, axis(state.count, { type: spans(among.map((i) => x[i])) ? "log" : "linear", exponentformat: "SI" }), axis(name, { type: up, ...(cut ? cut.axis : {}) }), cut ? strip(cut, gone) : {}));
  };
  const top = () => {
    const shares = [1, 0.7, 0.5, 0.3, 0.2, 0.1, 0.05, 0.03, 0.02, 0.01];
    const line = (values, name, more) => {
      const among = both(values, accuracy()).sort((a, b) => accuracy()[b] - accuracy()[a]);
      const y = shares.map((s) => { const k = among.slice(0, Math.ceil(s * among.length)); return k.length < 10 ? null : spearman(k.map((i) => values[i]), k.map((i) => accuracy()[i])); });
      return { x: shares.map((s) => 100 * s), y, name: plain(brief(name, 40)), mode: "lines+markers", hovertemplate: "best %{x} %: ρ %{y:.3f}", ...more };
    };
    draw("top", [line(score().value, score().label, { line: { color: colour("--blue") } }), line(data.scores[state.other].value, data.scores[state.other].label, { line: { color: colour("--red"), dash: "dot" } }),
      line(data.counts[state.count], state.count, { line: { color: colour("--quiet"), dash: "dash" } })],
    layout("ρ within the most accurate", axis("only the most accurate …, %", { type: "log", autorange: "reversed", tickvals: [100, 50, 20, 10, 5, 2, 1], ticktext: ["100", "50", "20", "10", "5", "2", "1"] }), axis("ρ"), { showlegend: true, legend: { orientation: "h", y: -0.3, font: { size: 11 } } }));
  };
  const rankRank = () => {
    const a = score(), b = data.scores[state.other], among = both(a.value, b.value);
    const x = ranks(among.map((i) => a.value[i])), y = ranks(among.map((i) => b.value[i]));
    const rho = spearman(among.map((i) => a.value[i]), among.map((i) => b.value[i]));
    draw("ranks", [{ ...points(among, a.value, b.value), x: [...x], y: [...y] }], layout(`Ranks of two scores: ρ ${short(rho, 4)}`, axis(`rank by ${a.label}`, { exponentformat: "SI" }), axis(`rank by ${b.label}`, { exponentformat: "SI" })));
  };
  const layersOf = (arch) => {
    const s = score();
    const fits = data.layers.filter((g) => g.networks[arch] && (s.recipe === g.recipe || !s.recipe) && (s.seed === g.seed || s.seed === null));
    return fits.find((g) => s.name.startsWith(g.measured)) || fits.find((g) => s.name.startsWith("snip") === g.measured.startsWith("plain")) || fits[0];
  };
  const network = () => {
    const i = state.network;
    if (i === null) return;
    const arch = data.architectures[i];
    element("chosen").className = "some";
    element("network").textContent = told(i).replaceAll("\n", " · ");
    const group = layersOf(arch);
    Plotly.purge("layers");
    if (!group) { element("layers").textContent = "The layers of this network are not in the page: ssnr score --per-layer shows them."; return; }
    const [which, total, sigma] = group.networks[arch], { names, numel } = group.layouts[which];
    const ratio = total.map((t, k) => (sigma[k] ? t / sigma[k] : 0));
    const bar = (values, at, name) => ({ type: "bar", x: names.map((_, k) => k), y: values, xaxis: "x", yaxis: at, marker: { color: colour("--blue") }, hovertemplate: names.map((n, k) => `${plain(n)}<br>${numel[k].toLocaleString("en")} weights<br>${name} %{y:.4g}<extra></extra>`) });
    element("layers").textContent = "";
    draw("layers", [bar(total, "y", "Σ S"), bar(sigma, "y2", "σ"), bar(ratio, "y3", "Σ S/σ")], layout(`Layers, ${group.measured}`, axis("depth", { anchor: "y3" }), axis("Σ S", { domain: [0.7, 1], type: spans(total) ? "log" : "linear" }),
      { yaxis2: axis("σ", { domain: [0.36, 0.64], type: spans(sigma) ? "log" : "linear" }), yaxis3: axis("Σ S/σ", { domain: [0, 0.3] }), dragmode: "zoom" }));
  };

  // --- tables ------------------------------------------------------------------------------------------------
  const table = (id, head, rows, kinds = []) => {
    const line = (cells, tag) => { const tr = document.createElement("tr"); for (const c of cells) { const td = document.createElement(tag); td.textContent = c ?? ""; tr.append(td); } return tr; };
    const body = rows.map((r, k) => { const tr = line(r, "td"); if (kinds[k] === "control") tr.className = "control"; return tr; });
    element(id).replaceChildren(line(head, "th"), ...body);
  };
  const tables = () => {
    element("correlation").hidden = !measured; element("top").parentElement.hidden = !measured;
    table("measured", ["space", "measured", "recipe", "seed", "data", "networks", "store", "scoring version"], data.measured.map((g) => [g.space, g.measured, g.recipe, g.seed, g.data, g.networks.toLocaleString("en"), g.store, g.version]));
    element("cite").textContent = `${data.cite} Made with ssnr ${data.versions.ssnr}.`;
    if (!measured) return;
    const b = data.benchmarks[state.benchmark];
    element("metric").textContent = `${b.metric}; ${b.n.toLocaleString("en")} architectures, ${(100 * b.coverage).toFixed(1)} % of the benchmark. Controls are in italics: a proxy below them is no better than counting.`;
    table("correlations", ["proxy", "ρ [95 %]", "τ [95 %]", "n", "dead", "failed", "first choice"], b.table.map((r) => [r.proxy, r.rho, r.tau, r.n.toLocaleString("en"), r.dead, r.failed, short(r.choice, 4)]), b.table.map((r) => r.kind));
    element("notes").replaceChildren(...b.notes.map((text) => { const li = document.createElement("li"); li.textContent = text; return li; }));
  };

  // --- what the reader does ----------------------------------------------------------------------------------
  const say = () => {
    const chosen = state.selected ? `, ${state.selected.size.toLocaleString("en")} selected` : "";
    element("summary").textContent = `${state.shown.length.toLocaleString("en")} of ${count.toLocaleString("en")} networks${chosen}`;
  };
  const search = searches(data, { element, axis, layout, draw, colour, spans, plain });
  const plots = () => { say(); scatter(); pareto(); if (measured) top(); rankRank(); };
  const everyPlot = () => { plots(); network(); search.show(); };
  const filter = () => {
    const text = element("find").value.toLowerCase(), low = parseFloat(element("low").value), high = parseFloat(element("high").value);
    state.shown = everything.filter((i) => (!text || data.architectures[i].toLowerCase().includes(text)) && !(accuracy()[i] < low) && !(accuracy()[i] > high));
    plots();
  };
  const fill = (id, texts, chosen) => {
    element(id).replaceChildren(...texts.map((text, k) => { const o = document.createElement("option"); o.value = k; o.textContent = text; return o; }));
    element(id).value = chosen;
  };
  fill("benchmark", data.benchmarks.map((b) => b.name), 0);
  fill("score", data.scores.map((s) => s.label), state.score);
  fill("other", data.scores.map((s) => s.label), state.other);
  const counts = Object.keys(data.counts);
  fill("count", counts, 0);
  fill("against", measured ? ["accuracy", "score"] : ["score"], 0);
  fill("search", data.searches.map((s) => s.title), 0);
  if (!measured) for (const id of ["benchmark", "low", "high", "against"]) element(id).closest("label").hidden = true;
  element("benchmark").onchange = (e) => { state.benchmark = Number(e.target.value); filter(); tables(); network(); };
  element("against").onchange = (e) => { state.against = ["accuracy", "score"][e.target.value]; pareto(); };
  element("search").onchange = (e) => { search.choose(Number(e.target.value)); };
  element("score").onchange = (e) => { state.score = Number(e.target.value); plots(); network(); };
  element("other").onchange = (e) => { state.other = Number(e.target.value); if (measured) top(); rankRank(); };
  element("count").onchange = (e) => { state.count = counts[e.target.value]; plots(); };
  for (const id of ["find", "low", "high"]) element(id).oninput = filter;
  element("clear").onclick = () => { state.selected = null; plots(); };
  element("theme").onclick = () => {
    const root = document.documentElement, dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
    root.dataset.theme = dark ? "light" : "dark"; everyPlot();
  };
  addEventListener("beforeprint", () => {
    Object.assign(print, { on: true, theme: document.documentElement.dataset.theme });
    document.documentElement.dataset.theme = "light"; document.body.classList.add("paper"); everyPlot();
  });
  addEventListener("afterprint", () => {
    print.on = false; document.body.classList.remove("paper");
    if (print.theme) document.documentElement.dataset.theme = print.theme; else delete document.documentElement.dataset.theme;
    everyPlot();
  });
  const choose = (i) => { state.network = i; network(); scatter(); };
  const quoted = (v) => { const text = String(v ?? ""); const safe = /^[=+@\t]/.test(text) ? `'${text}` : text; return /[",\n]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe; };
  element("csv").onclick = () => {
    const among = state.selected ? [...state.selected] : state.shown;
    const head = ["architecture", "accuracy", ...counts, ...data.scores.map((s) => s.label)];
    const rows = among.map((i) => [data.architectures[i], accuracy()[i], ...counts.map((c) => data.counts[c][i]), ...data.scores.map((s) => s.value[i])]);
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([[head, ...rows].map((r) => r.map(quoted).join(",")).join("\n") + "\n"], { type: "text/csv" }));
    link.download = "selection.csv"; link.click(); URL.revokeObjectURL(link.href);
  };
  element("scatter").addEventListener("keydown", (e) => {
    const step = { ArrowRight: 1, ArrowLeft: -1, Home: -Infinity, End: Infinity }[e.key];
    if (step === undefined) return;
    e.preventDefault();
    const sign = score().larger ? 1 : -1, order = both(score().value, level().values).sort((a, b) => sign * (score().value[b] - score().value[a]) || a - b);
    if (!order.length) return;
    const at = order.indexOf(state.network);
    choose(order[Math.max(0, Math.min(order.length - 1, at < 0 ? (step > 0 && step !== Infinity ? 0 : step === Infinity ? order.length - 1 : 0) : at + step))]);
  });

  const tip = element("tip");
  const hover = (e) => {
    const i = e.points[0].customdata;
    if (typeof i !== "number") return;
    tip.textContent = told(i); tip.hidden = false;
    tip.style.left = `${Math.min(e.event.clientX + 14, innerWidth - tip.offsetWidth - 8)}px`; tip.style.top = `${e.event.clientY + 14}px`;
  };

  const soon = () => new Promise((done) => setTimeout(done)); // lets the browser paint in between
  say(); tables(); await soon(); scatter(); await soon(); if (measured) top(); await soon(); pareto(); await soon(); rankRank(); await soon(); search.show();
  for (const id of ["scatter", "pareto", "ranks"]) {
    element(id).on("plotly_hover", hover);
    element(id).on("plotly_unhover", () => { tip.hidden = true; });
    element(id).on("plotly_click", (e) => { const i = e.points[0].customdata; if (typeof i === "number") choose(i); });
    element(id).on("plotly_selected", (e) => {
      if (!e) return;
      const found = e.points.map((p) => p.customdata).filter((i) => typeof i === "number");
      state.selected = found.length ? new Set(found) : null; plots();
    });
  }
  if (data.searches.length) for (const id of ["history", "front"]) element(id).on?.("plotly_click", (e) => { const i = e.points[0].customdata; if (typeof i === "number") choose(i); });
  document.documentElement.dataset.ready = "yes";
})().catch((error) => { document.getElementById("summary").textContent = `This page cannot be shown: ${error.message}`; throw error; });
