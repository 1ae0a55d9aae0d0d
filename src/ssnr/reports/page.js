"use strict";
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
  const state = { benchmark: 0, score: 0, other: Math.min(1, data.scores.length - 1), count: "params", shown: everything, selected: null, network: null };
  const plain = (text) => String(text).replaceAll("<", "‹").replaceAll(">", "›"); // Plotly reads some markup
  const short = (value, digits = 5) => value === null || value === undefined ? "–" : Number(value).toPrecision(digits).replace(/\.?0+($|e)/, "$1");
  const accuracy = () => data.benchmarks[state.benchmark].accuracy;
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
  const axis = (title, more = {}) => ({ title: { text: plain(title), font: { size: 12 } }, gridcolor: colour("--line"), zeroline: false, automargin: true, ...more });
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
    const parts = [data.architectures[i], `${score().label} ${short(score().value[i])}`, `accuracy ${short(accuracy()[i])}`];
    for (const name of ["params", "flops"]) if (data.counts[name][i] !== null) parts.push(`${name} ${data.counts[name][i].toLocaleString("en")}`);
    return parts.join("\n");
  };
  const points = (among, x, y, more = {}) => ({
    type: "scattergl", mode: "markers", x: among.map((i) => x[i]), y: among.map((i) => y[i]), customdata: among, hoverinfo: "none",
    marker: { size: 4, color: colour("--blue"), opacity: 0.55 }, selectedpoints: state.selected ? among.flatMap((i, at) => (state.selected.has(i) ? [at] : [])) : null,
    selected: { marker: { color: colour("--red"), opacity: 1 } }, unselected: { marker: { opacity: 0.15 } }, ...more,
  });

  // --- plots -------------------------------------------------------------------------------------------------
  const draw = (id, traces, page) => Plotly.react(id, traces, page, options);
  const scatter = () => {
    const s = score(), dead = new Set(s.dead), live = both(s.value, accuracy()).filter((i) => !dead.has(i));
    const gone = state.shown.filter((i) => dead.has(i) && accuracy()[i] !== null);
    const wide = spans(live.map((i) => s.value[i]));
    const rho = spearman(live.concat(gone).map((i) => s.value[i]), live.concat(gone).map((i) => accuracy()[i]));
    const traces = [points(live, s.value, accuracy())];
    const strip = gone.length ? 0.07 : 0;
    if (gone.length) traces.push({ ...points(gone, gone.map(() => 0), accuracy()), x: gone.map(() => "dead"), xaxis: "x2", marker: { symbol: "x", size: 6, color: colour("--red") } });
    if (state.network !== null) traces.push({ x: [s.value[state.network]], y: [accuracy()[state.network]], mode: "markers", hoverinfo: "skip", marker: { size: 13, symbol: "circle-open", color: colour("--red"), line: { width: 2 } } });
    const title = `${s.label} against accuracy: ρ ${short(rho, 4)}, n ${(live.length + gone.length).toLocaleString("en")}${s.failed.length ? `, failed ${s.failed.length}` : ""}`;
    const x = axis(s.logarithm ? `ln ${s.label}` : s.label, { domain: [strip ? strip + 0.02 : 0, 1], type: wide ? "log" : "linear" });
    draw("scatter", traces, layout(title, x, axis(data.benchmarks[state.benchmark].name, { anchor: "free", position: 0 }), { xaxis2: { domain: [0, strip || 0.01], type: "category", visible: Boolean(gone.length), gridcolor: colour("--line"), fixedrange: true, anchor: "y" } }));
  };
  const pareto = () => {
    const x = data.counts[state.count], among = both(x, accuracy());
    const order = [...among].sort((a, b) => x[a] - x[b] || accuracy()[b] - accuracy()[a]);
    const front = []; let best = -Infinity;
    for (const i of order) if (accuracy()[i] > best) { best = accuracy()[i]; front.push(i); }
    const values = score().value, scored = among.filter((i) => values[i] !== null).map((i) => values[i]).sort((a, b) => a - b);
    const shade = (i) => { const v = values[i]; let low = 0, high = scored.length; while (low < high) { const mid = (low + high) >> 1; if (scored[mid] < v) low = mid + 1; else high = mid; } return low / Math.max(scored.length, 1); };
    draw("pareto", [points(among, x, accuracy(), { marker: { size: 4, color: among.map(shade), colorscale: "Cividis", opacity: 0.7 } }),
      { x: front.map((i) => x[i]), y: front.map((i) => accuracy()[i]), mode: "lines", line: { color: colour("--red"), shape: "hv", width: 1.5 }, hoverinfo: "skip" }],
    layout(`${state.count} against accuracy, by rank of ${score().label}`, axis(state.count, { type: spans(among.map((i) => x[i])) ? "log" : "linear" }), axis("accuracy")));
  };
  const top = () => {
    const shares = [1, 0.7, 0.5, 0.3, 0.2, 0.1, 0.05, 0.03, 0.02, 0.01];
    const line = (values, name, more) => {
      const among = both(values, accuracy()).sort((a, b) => accuracy()[b] - accuracy()[a]);
      const y = shares.map((s) => { const k = among.slice(0, Math.ceil(s * among.length)); return k.length < 10 ? null : spearman(k.map((i) => values[i]), k.map((i) => accuracy()[i])); });
      return { x: shares.map((s) => 100 * s), y, name: plain(name), mode: "lines+markers", hovertemplate: "best %{x} %: ρ %{y:.3f}", ...more };
    };
    draw("top", [line(score().value, score().label, { line: { color: colour("--blue") } }), line(data.scores[state.other].value, data.scores[state.other].label, { line: { color: colour("--red"), dash: "dot" } }),
      line(data.counts[state.count], state.count, { line: { color: colour("--quiet"), dash: "dash" } })],
    layout("ρ within the most accurate", axis("only the most accurate …, %", { type: "log", autorange: "reversed" }), axis("ρ"), { showlegend: true, legend: { orientation: "h", y: -0.3, font: { size: 11 } } }));
  };
  const rankRank = () => {
    const a = score(), b = data.scores[state.other], among = both(a.value, b.value);
    const x = ranks(among.map((i) => a.value[i])), y = ranks(among.map((i) => b.value[i]));
    const rho = spearman(among.map((i) => a.value[i]), among.map((i) => b.value[i]));
    draw("ranks", [{ ...points(among, a.value, b.value), x: [...x], y: [...y] }], layout(`Ranks of two scores: ρ ${short(rho, 4)}`, axis(`rank by ${a.label}`), axis(`rank by ${b.label}`)));
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
    element("network").textContent = `${arch} · ${score().label} ${short(score().value[i])} · accuracy ${short(accuracy()[i])} · params ${short(data.counts.params[i], 9)} · flops ${short(data.counts.flops[i], 12)}`;
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
    const b = data.benchmarks[state.benchmark];
    element("metric").textContent = `${b.metric}; ${b.n.toLocaleString("en")} architectures, ${(100 * b.coverage).toFixed(1)} % of the benchmark. Controls are in italics: a proxy below them is no better than counting.`;
    table("correlations", ["proxy", "ρ [95 %]", "τ [95 %]", "n", "dead", "failed", "first choice"], b.table.map((r) => [r.proxy, r.rho, r.tau, r.n.toLocaleString("en"), r.dead, r.failed, short(r.choice, 4)]), b.table.map((r) => r.kind));
    element("notes").replaceChildren(...b.notes.map((text) => { const li = document.createElement("li"); li.textContent = text; return li; }));
    table("measured", ["space", "measured", "recipe", "seed", "data", "networks", "store", "scoring version"], data.measured.map((g) => [g.space, g.measured, g.recipe, g.seed, g.data, g.networks.toLocaleString("en"), g.store, g.version]));
    element("cite").textContent = `${data.cite} Made with ssnr ${data.versions.ssnr}.`;
  };

  // --- what the reader does ----------------------------------------------------------------------------------
  const say = () => {
    const chosen = state.selected ? `, ${state.selected.size.toLocaleString("en")} selected` : "";
    element("summary").textContent = `${state.shown.length.toLocaleString("en")} of ${count.toLocaleString("en")} networks${chosen}`;
  };
  const plots = () => { say(); scatter(); pareto(); top(); rankRank(); };
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
  element("benchmark").onchange = (e) => { state.benchmark = Number(e.target.value); filter(); tables(); network(); };
  element("score").onchange = (e) => { state.score = Number(e.target.value); plots(); network(); };
  element("other").onchange = (e) => { state.other = Number(e.target.value); top(); rankRank(); };
  element("count").onchange = (e) => { state.count = counts[e.target.value]; pareto(); top(); };
  for (const id of ["find", "low", "high"]) element(id).oninput = filter;
  element("clear").onclick = () => { state.selected = null; plots(); };
  element("theme").onclick = () => {
    const root = document.documentElement, dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
    root.dataset.theme = dark ? "light" : "dark"; plots(); network();
  };
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
    const order = both(score().value, accuracy()).sort((a, b) => score().value[b] - score().value[a] || a - b);
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
  say(); tables(); await soon(); scatter(); await soon(); top(); await soon(); pareto(); await soon(); rankRank();
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
  document.documentElement.dataset.ready = "yes";
})().catch((error) => { document.getElementById("summary").textContent = `This page cannot be shown: ${error.message}`; throw error; });
