// Search page. Talks to its own server only; keeps nothing but the token, for this tab.

const PAGE = 60;
const $ = (id) => document.getElementById(id);
const isNarrow = matchMedia("(max-width: 59.99rem)");
const state = { gallery: null, waiting: [], files: [], keys: [], reply: null, at: 0, open: 0, shelf: 0, run: 0, query: [] };

// ---- small helpers -------------------------------------------------------------------------

function make(tag, words = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(words)) {
    if (name === "class") node.className = value;
    else if (name === "text") node.textContent = value;
    else if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value);
  }
  node.append(...children);
  return node;
}

const counted = (n, one, many) => `${n.toLocaleString("en")} ${n === 1 ? one : many}`;
const percent = (x) => (x > 0 && x < 0.01 ? "under 1\u00a0%" : x > 0.99 && x < 1 ? "over 99\u00a0%" : `${Math.round(100 * x)}\u00a0%`);
const size = (s) => (s ? `${s[0]} × ${s[1]} px` : "size unknown");
const distance = (d) => d.toFixed(3);
const trust = (r) => (r === null ? "not fitted" : percent(r));

function when(seconds) {
  if (seconds === null) return "time unknown";
  return new Date(1000 * seconds).toLocaleString("en-GB", {
    day: "numeric", month: "short", year: "numeric", hour: "2-digit", minute: "2-digit",
  });
}

function say(text) { $("status").textContent = text; }

function complain(text) {
  $("problem").textContent = text;
  $("problem").hidden = !text;
}

// ---- the server ----------------------------------------------------------------------------

async function call(path, options = {}) {
  const token = sessionStorage.getItem("resolute-token");
  const headers = { ...(options.headers || {}), ...(token ? { Authorization: `Bearer ${token}` } : {}) };
  let response;
  try {
    response = await fetch(path, { ...options, headers });
  } catch {
    throw new Error("The server does not answer. Is it still running?");
  }
  if (response.ok) return response;
  if (response.status === 401) askForToken(Boolean(token));
  let message = `The server refused (${response.status}).`;
  try { message = (await response.json()).error.message; } catch { /* no JSON: the status must do */ }
  throw new Error(message.charAt(0).toUpperCase() + message.slice(1));
}

async function picture(link) {
  const blob = await (await call(link)).blob();
  return URL.createObjectURL(blob);
}

// Fills a stage when it comes into sight, so that a long list costs no more than what is seen.
const seen = new IntersectionObserver((entries) => {
  for (const entry of entries) {
    if (!entry.isIntersecting) continue;
    seen.unobserve(entry.target);
    fill(entry.target, entry.target.dataset.link);
  }
}, { rootMargin: "400px" });

async function fill(stage, link, text = "") {
  if (!link) { stage.append("no picture kept"); return; }
  try {
    const image = make("img", { alt: text });
    const url = await picture(link);
    image.addEventListener("load", () => URL.revokeObjectURL(url), { once: true });
    image.src = url;
    stage.append(image);
  } catch {
    stage.append("no picture");
  }
}

function lazily(stage, link) {
  if (!link) { stage.append("no picture kept"); return; }
  stage.dataset.link = link;
  seen.observe(stage);
}

function askForToken(isWrong) {
  sessionStorage.removeItem("resolute-token");
  $("access").hidden = false;
  $("bench").hidden = true;
  for (const dialog of document.querySelectorAll("dialog[open]")) dialog.close();
  $("token-note").textContent = isWrong
    ? "That token was not accepted. Ask whoever runs this server."
    : "This server asks for a token. It is kept for this tab only.";
  $("token").focus();
}

async function open() {
  try {
    state.gallery = await (await call("v1/gallery")).json();
  } catch (error) {
    $("facts").textContent = $("access").hidden ? error.message : "";
    return;
  }
  $("access").hidden = true;
  $("bench").hidden = false;
  const { num_images, cameras, calibrated_on, retention_days, is_read_only } = state.gallery;
  const names = Object.keys(cameras).filter(Boolean);
  $("facts").textContent = [
    counted(num_images, "image", "images"),
    names.length ? counted(names.length, "camera", "cameras") : "",
    calibrated_on ? `calibrated on ${calibrated_on}` : "not calibrated",
    retention_days === null ? "" : `images are erased after ${retention_days} days`,
    is_read_only ? "read only" : "",
  ].filter(Boolean).join(" · ");
  for (const id of ["camera", "not-camera", "shelf-camera"]) {
    $(id).replaceChildren($(id).options[0], ...names.map((name) => make("option", { value: name, text: name })));
  }
  $("delete").hidden = is_read_only;
  refresh();
  take(state.waiting.splice(0));
}

// ---- the query -----------------------------------------------------------------------------

function take(files) {
  const images = [...files];
  if (!images.length) return;
  if (!state.gallery) {
    // The page is quicker than its server: what was dropped waits for the gallery's facts.
    state.waiting = images;
    return;
  }
  const { max_images, max_upload_bytes } = state.gallery;
  const all = [...state.files, ...images];
  complain("");
  if (all.length > max_images) {
    complain(`At most ${max_images} images make a query.`);
  } else if (all.reduce((sum, file) => sum + file.size, 0) > max_upload_bytes) {
    complain(`The images have more than ${Math.floor(max_upload_bytes / 2 ** 20)} MiB together: choose smaller crops.`);
  } else {
    state.keys = [];
    state.files = all;
    refresh();
    search();
  }
}

function refresh() {
  const remove = (list, item, name) => make("button", {
    type: "button", "aria-label": `Remove ${name} from the query`, text: "×",
    onclick: () => { list.splice(list.indexOf(item), 1); refresh(); $("drop").focus(); },
  });
  const items = state.files.map((file, i) => {
    const url = URL.createObjectURL(file);
    const image = make("img", { alt: `query image ${i + 1}` });
    image.addEventListener("load", () => URL.revokeObjectURL(url), { once: true });
    image.addEventListener("error", () => { URL.revokeObjectURL(url); image.remove(); }, { once: true });
    image.src = url;
    return make("li", {}, image, remove(state.files, file, `image ${i + 1}`));
  });
  for (const entry of state.keys) {
    const item = make("li", { class: "stage" }, remove(state.keys, entry, "the gallery image"));
    fill(item, entry.thumbnail, "query image, from the gallery");
    items.push(item);
  }
  $("chosen").replaceChildren(...items);
  const isEmpty = !state.files.length && !state.keys.length;
  $("go").disabled = isEmpty || !state.gallery;
  $("clear").hidden = isEmpty && !state.reply;
}

function filled() {
  const form = new FormData();
  for (const file of state.files) form.append("image", file, "crop");
  for (const entry of state.keys) form.append("key", entry.key);
  form.append("k", $("k").value);
  if ($("camera").value) form.append("camera", $("camera").value);
  if ($("not-camera").value) form.append("not_camera", $("not-camera").value);
  for (const id of ["start", "end"]) {
    if ($(id).value) form.append(id, String(new Date($(id).value).getTime() / 1000));
  }
  if (Number($("reliability").value) > 0) form.append("min_reliability", $("reliability").value);
  return form;
}

async function search() {
  if (!state.gallery || (!state.files.length && !state.keys.length)) return;
  const run = ++state.run;
  complain("");
  say("Searching…");
  $("hits").setAttribute("aria-busy", "true");
  try {
    const reply = await (await call("v1/search", { method: "POST", body: filled() })).json();
    if (run !== state.run) return;
    state.reply = reply;
    state.query = { files: [...state.files], keys: [...state.keys] };
    show();
    // On a phone the candidates begin below what can be seen.
    if (isNarrow.matches) $("results").scrollIntoView();
  } catch (error) {
    if (run !== state.run) return;
    say("");
    complain(error.message);
  } finally {
    if (run === state.run) $("hits").removeAttribute("aria-busy");
  }
}

// ---- the candidates ------------------------------------------------------------------------

function show() {
  const { hits, exact, num_compared, query, num_query_images, calibrated_on, prior } = state.reply;
  state.at = 0;
  $("start-here").hidden = true;
  $("none").hidden = hits.length > 0;
  $("none-why").textContent = state.gallery.num_images
    ? "Widen the filters: images whose time or reliability is unknown fail a condition on it."
    : "The gallery is empty: add images with resolute index, or over the API.";
  const what = num_query_images > 1 ? `${num_query_images} images pooled, the best ` : "Query ";
  const notes = [make("p", { text:
    `${what}${size(query.native_size)}, reliability ${trust(query.reliability)}. `
    + (exact ? "The order is proven exact." : "The order is not proven exact: other images may be as near.") })];
  if (hits.length) {
    notes.push(calibrated_on === null
      ? make("p", { class: "note", text: "Not calibrated: distances put the candidates in order, but say nothing of how likely it is one person." })
      : make("p", { class: "small", text: `Probabilities start from a chance of ${percent(prior)} before looking, and were fitted on ${calibrated_on}.` }));
  }
  $("summary").replaceChildren(...notes);
  $("summary").hidden = false;
  $("hits").replaceChildren(...hits.map(card));
  say(`${counted(hits.length, "ranked candidate", "ranked candidates")} of ${counted(num_compared, "image", "images")} compared.`);
  $("clear").hidden = false;
}

function card(hit, index) {
  const stage = make("div", { class: "stage" }, make("span", { class: "rank", text: hit.rank }));
  lazily(stage, hit.thumbnail);
  const chance = hit.probability === null ? "not calibrated" : percent(hit.probability);
  const facts = make("div", { class: "facts" },
    make("div", { class: "distance" }, make("b", { text: distance(hit.distance) }), make("span", { text: "distance" })),
    make("div", { text: hit.probability === null ? chance : `probability ${chance}` }),
    make("div", { class: "place", text: hit.camera || "camera unknown" }),
    make("div", { text: when(hit.time) }),
    make("div", { text: size(hit.native_size) }),
    make("div", { text: `reliability ${trust(hit.reliability)}` }));
  if (hit.stream_distances.length > 1) facts.append(bars(hit), make("div", { class: "word", text: decided(hit) }));
  const label = `Candidate ${hit.rank}, distance ${distance(hit.distance)}, `
    + (hit.probability === null ? "not calibrated" : `probability ${chance}`)
    + `, ${hit.camera || "camera unknown"}, ${when(hit.time)}`;
  return make("li", {}, make("button", {
    type: "button", class: "hit", "aria-label": label, tabindex: index ? "-1" : "0",
    onclick: () => detail(index), onfocus: () => { move(index, false); },
  }, stage, facts));
}

function bar(kind, share) {
  const inner = make("i");
  inner.style.width = `${Math.round(100 * share)}%`;
  return make("div", { class: `bar ${kind}` }, inner);
}

const bars = (hit) => make("div", { class: "bars", "aria-hidden": "true" }, bar("hr", hit.hr_share), bar("lr", 1 - hit.hr_share));

function decided(hit) {
  if (hit.hr_share > 0.6) return `by the sharp view, ${percent(hit.hr_share)}`;
  if (hit.hr_share < 0.4) return `by the coarse view, ${percent(1 - hit.hr_share)}`;
  return "by both views alike";
}

function move(index, isFocused = true) {
  const buttons = $("hits").querySelectorAll(".hit");
  if (!buttons.length) return;
  state.at = Math.max(0, Math.min(index, buttons.length - 1));
  buttons.forEach((button, i) => button.setAttribute("tabindex", i === state.at ? "0" : "-1"));
  if (isFocused) {
    buttons[state.at].focus();
    buttons[state.at].scrollIntoView({ block: "nearest" });
  }
}

function columns() {
  const tops = [...$("hits").children].map((item) => item.offsetTop);
  const second = tops.findIndex((top) => top > tops[0]);
  return second < 0 ? tops.length : second;
}

// A new stage in the place of the old one, which a picture that comes late may still fill.
function emptied(id) {
  const stage = make("div", { class: "stage", id });
  $(id).replaceWith(stage);
  return stage;
}

function detail(index) {
  const hit = state.reply.hits[index];
  state.open = index;
  $("detail-title").textContent = `Candidate ${hit.rank} of ${state.reply.hits.length}`;
  fill(emptied("detail-hit"), hit.thumbnail, `candidate ${hit.rank}`);
  const stage = emptied("detail-query");
  if (state.query.files.length) {
    const url = URL.createObjectURL(state.query.files[0]);
    const image = make("img", { alt: "query", src: url });
    image.addEventListener("load", () => URL.revokeObjectURL(url), { once: true });
    stage.append(image);
  } else if (state.query.keys.length) {
    fill(stage, state.query.keys[0].thumbnail, "query");
  }
  const caption = (node, word, image) => node.replaceChildren(
    make("b", { text: word }), ` ${size(image.native_size)}, reliability ${trust(image.reliability)}`);
  caption($("detail-query-words"), "Query", state.reply.query);
  caption($("detail-hit-words"), "Candidate", hit);
  const facts = [
    ["Distance", distance(hit.distance)],
    ["Probability", hit.probability === null ? "not calibrated" : `${percent(hit.probability)} that it is one person`],
    ["Camera", hit.camera || "unknown"], ["Time", when(hit.time)], ["Key", hit.key], ["Number", String(hit.id)],
  ];
  $("detail-facts").replaceChildren(...facts.flatMap(([name, text]) => [make("dt", { text: name }), make("dd", { text })]));
  $("detail-why").replaceChildren(...why(hit));
  $("previous").disabled = index === 0;
  $("next").disabled = index === state.reply.hits.length - 1;
  unconfirm();
  if (!$("detail").open) $("detail").showModal();
}

function why(hit) {
  if (hit.stream_distances.length < 2) return [make("p", { text: "This model looks at images in one way only: the distance is that of its one view." })];
  const line = (word, share, d, kind) => make("div", {},
    make("div", { class: "line" }, make("b", { text: word }), make("span", { text: `counts ${percent(share)}, distance ${distance(d)}` })),
    bar(kind, share));
  const [hr, lr] = hit.stream_distances;
  const words = hit.hr_share > 0.6 ? "Mostly the sharp view decided: both images have detail to trust."
    : hit.hr_share < 0.4 ? "Mostly the coarse view decided: at least one image is too small for detail."
      : "Both views decided about equally.";
  const gap = Math.abs(hr - lr) < 0.1 * Math.max(hr, lr, 1e-9) ? "They agree on the distance."
    : hr < lr ? "In detail the two look more alike than at a coarse look."
      : "At a coarse look the two are more alike than in detail.";
  return [make("h2", { text: "Why it ranks here" }), line("Sharp view", hit.hr_share, hr, "hr"),
    line("Coarse view", 1 - hit.hr_share, lr, "lr"), make("p", { class: "small", text: `${words} ${gap}` })];
}

function unconfirm() {
  $("confirm").hidden = true;
  $("delete").hidden = state.gallery.is_read_only;
  for (const id of ["delete-yes", "delete-no", "reuse"]) $(id).disabled = false;
}

async function remove() {
  const at = state.open;
  const hit = state.reply.hits[at];
  for (const id of ["delete-yes", "delete-no", "reuse", "previous", "next"]) $(id).disabled = true;
  try {
    await call("v1/delete", {
      method: "POST", headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ keys: [hit.key], purge: true }),
    });
  } catch (error) {
    $("detail").close();
    complain(error.message);
    return;
  }
  await open();
  // From here to the new list nothing waits: no other candidate can be open when places change.
  $("detail").close();
  if (state.reply) {
    state.reply.hits = state.reply.hits.filter(({ key }) => key !== hit.key);
    show();
  }
  say(`Candidate ${hit.rank} was deleted and erased.`);
  move(at);
}

function query(entry) {
  state.files = [];
  state.keys = [{ key: entry.key, thumbnail: entry.thumbnail }];
  for (const dialog of document.querySelectorAll("dialog[open]")) dialog.close();
  refresh();
  search();
  $("results").focus();
}

// ---- the gallery ---------------------------------------------------------------------------

async function shelve(isMore) {
  if (!isMore) { state.shelf = 0; $("shelf").replaceChildren(); }
  const camera = $("shelf-camera").value;
  const path = `v1/images?limit=${PAGE}&start=${state.shelf}${camera ? `&camera=${encodeURIComponent(camera)}` : ""}`;
  try {
    const page = await (await call(path)).json();
    for (const entry of page.images) {
      const stage = make("div", { class: "stage" });
      lazily(stage, entry.thumbnail);
      $("shelf").append(make("li", {}, make("button", {
        type: "button", "aria-label": `Search with ${entry.key}`, title: entry.key, onclick: () => query(entry),
      }, stage, make("span", { text: entry.key }))));
    }
    $("shelf-empty").hidden = $("shelf").children.length > 0;
    state.shelf = page.next;
    $("more").hidden = page.next === null;
  } catch (error) {
    $("picker").close();
    complain(error.message);
  }
}

function count() {
  const on = ["camera", "not-camera", "start", "end"].filter((id) => $(id).value).length + (Number($("reliability").value) > 0);
  $("filters-on").textContent = on ? counted(on, "condition", "conditions") : "";
}

// ---- events --------------------------------------------------------------------------------

$("access").addEventListener("submit", (event) => {
  event.preventDefault();
  sessionStorage.setItem("resolute-token", $("token").value.trim());
  $("token").value = "";
  open();
});
$("ask").addEventListener("submit", (event) => { event.preventDefault(); search(); });
$("drop").addEventListener("click", () => $("files").click());
$("files").addEventListener("change", () => { take($("files").files); $("files").value = ""; });
$("browse").addEventListener("click", () => { $("picker").showModal(); shelve(false); });
$("more").addEventListener("click", () => shelve(true));
$("shelf-camera").addEventListener("change", () => shelve(false));
$("reliability").addEventListener("input", () => {
  const value = Number($("reliability").value);
  $("reliability-value").textContent = value ? percent(value) : "any";
});
for (const id of ["camera", "not-camera", "start", "end", "reliability", "k"]) $(id).addEventListener("change", () => { count(); search(); });
$("clear").addEventListener("click", () => {
  Object.assign(state, { files: [], keys: [], reply: null, run: state.run + 1 });
  $("hits").replaceChildren();
  $("hits").removeAttribute("aria-busy");
  $("summary").hidden = true;
  $("none").hidden = true;
  $("start-here").hidden = false;
  complain("");
  say("");
  refresh();
  $("drop").focus();
});
for (const button of document.querySelectorAll("dialog .close")) button.addEventListener("click", () => button.closest("dialog").close());
// The browser gives the focus back to the candidate that was opened first: take it further.
$("detail").addEventListener("close", () => move(state.open));
$("previous").addEventListener("click", () => detail(state.open - 1));
$("next").addEventListener("click", () => detail(state.open + 1));
$("reuse").addEventListener("click", () => query(state.reply.hits[state.open]));
$("delete").addEventListener("click", () => { $("delete").hidden = true; $("confirm").hidden = false; $("delete-no").focus(); });
$("delete-no").addEventListener("click", () => { unconfirm(); $("delete").focus(); });
$("delete-yes").addEventListener("click", remove);

for (const kind of ["dragenter", "dragover"]) {
  document.addEventListener(kind, (event) => { event.preventDefault(); $("drop").classList.add("over"); });
}
document.addEventListener("dragleave", (event) => { if (!event.relatedTarget) $("drop").classList.remove("over"); });
document.addEventListener("drop", (event) => {
  event.preventDefault();
  $("drop").classList.remove("over");
  take(event.dataTransfer.files);
});
document.addEventListener("paste", (event) => take(event.clipboardData.files));

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const isTyping = event.target.matches("input:not([type=range]), select, textarea");
  if ($("detail").open) {
    if (event.key === "ArrowRight" && !$("next").disabled) detail(state.open + 1);
    if (event.key === "ArrowLeft" && !$("previous").disabled) detail(state.open - 1);
    return;
  }
  if (event.key === "/" && !isTyping && !$("picker").open) {
    event.preventDefault();
    $("drop").focus();
    $("drop").scrollIntoView({ block: "nearest" });
    return;
  }
  if (!event.target.matches(".hit")) return;
  const steps = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: columns(), ArrowUp: -columns(), Home: -Infinity, End: Infinity };
  if (event.key in steps) {
    event.preventDefault();
    move(state.at + steps[event.key]);
  }
});

$("filters").open = !isNarrow.matches;
open();
