// Live prices over the WebSocket protocol at /ws. No framework, nothing from elsewhere.
"use strict";

const CONFLATE_MS = 250; // no eye follows more than four prices a second
const TREND_POINTS = 60;
const MAX_ROWS = 300; // what is drawn; the filter reaches the rest
const RESUME_WITHIN_MS = 60_000; // after a longer absence the newest prices are enough
const SILENCE_MS = 60_000; // even an idle server sends heartbeats
const FIRST_DELAY_MS = 500;
const LONGEST_DELAY_MS = 15_000;
const SVG = "http://www.w3.org/2000/svg";

const at = (id) => document.getElementById(id);
const quotes = new Map(); // symbol -> quote
const changed = new Set(); // quotes to draw in the next frame
let reordered = false;

// ---- numbers -------------------------------------------------------------------------------

// A price is shown with the digits it was sent with (150.2300 keeps its zeros): numbers of prices
// and sizes are read as text. Inside a JSON string the quotes would be escaped, so that nothing
// else can look like them.
function parse(text) {
  return JSON.parse(text.replace(/"(price|size)":(-?\d[\d.eE+-]*)/g, '"$1":"$2"'));
}

// An exact decimal as [integer, number of decimals], so that a difference is exact too.
function decimal(text) {
  const [, sign, whole, fraction = "", exponent = "0"] =
    /^(-?)(\d+)(?:\.(\d+))?(?:[eE]([+-]?\d+))?$/.exec(text) ?? [null, "", "0"];
  const places = fraction.length - Number(exponent);
  const digits = BigInt(sign + whole + fraction);
  return places < 0 ? [digits * 10n ** BigInt(-places), 0] : [digits, places];
}

function difference(from, to) {
  const [a, aPlaces] = decimal(from);
  const [b, bPlaces] = decimal(to);
  const places = Math.max(aPlaces, bPlaces);
  const units = b * 10n ** BigInt(places - bPlaces) - a * 10n ** BigInt(places - aPlaces);
  const digits = String(units < 0n ? -units : units).padStart(places + 1, "0");
  const whole = digits.slice(0, digits.length - places);
  const text = places ? `${whole}.${digits.slice(-places)}` : whole;
  return { sign: units > 0n ? 1 : units < 0n ? -1 : 0, text };
}

// ---- quotes --------------------------------------------------------------------------------

function take(symbol, update) {
  let quote = quotes.get(symbol);
  const time = Date.parse(update.timestamp);
  if (!quote) {
    quote = { symbol, first: update.price, trend: [], counted: 0, rate: 0, direction: 0, row: null };
    quotes.set(symbol, quote);
    reordered = true;
  } else if (update.seq <= quote.seq && time <= quote.time) {
    return; // a resumed connection may tell again what is known
  }
  const step = quote.price === undefined ? 0 : difference(quote.price, update.price).sign;
  if (step) quote.flash = quote.direction = step;
  Object.assign(quote, update, { time });
  quote.trend.push(Number(update.price));
  if (quote.trend.length > TREND_POINTS) quote.trend.shift();
  quote.counted += 1;
  changed.add(quote);
}

// Says in words what is no market's price of this moment.
function notice() {
  let simulated = 0;
  let replayed = 0;
  for (const { source } of quotes.values()) {
    if (source === "sim") simulated += 1;
    if (source === "file") replayed += 1;
  }
  const share = (count) => (count === quotes.size ? "These prices are" : "Some of these prices are");
  const words = [];
  if (simulated) words.push(`${share(simulated)} simulated: made up, and of no market.`);
  if (replayed) words.push(`${share(replayed)} replayed from a file: their times are those of the recording.`);
  at("notice").hidden = !words.length;
  if (at("notice").textContent !== words.join(" ")) at("notice").textContent = words.join(" ");
}

// Rows in sight are drawn at once, the others once a second: they are still read, by a search in the
// page or by a screen reader.
const sight = new IntersectionObserver((entries) => {
  for (const { target, isIntersecting } of entries) {
    const quote = quotes.get(target.dataset.symbol);
    if (!quote) continue;
    quote.inSight = isIntersecting;
    if (isIntersecting) changed.add(quote);
  }
});

// ---- table ---------------------------------------------------------------------------------

function rowOf(quote) {
  const row = document.createElement("tr");
  row.dataset.symbol = quote.symbol;
  const head = document.createElement("th");
  head.scope = "row";
  head.textContent = quote.symbol;
  const below = document.createElement("small");
  below.className = "badge";
  head.append(below);
  row.append(head);
  const cells = {};
  for (const field of ["price", "change", "trend", "size", "venue", "source", "time", "rate"]) {
    const cell = cells[field] = document.createElement("td");
    cell.dataset.field = field;
    if (["price", "change", "size", "rate"].includes(field)) cell.className = "number";
    row.append(cell);
  }
  const trend = document.createElementNS(SVG, "svg");
  trend.setAttribute("class", "trend");
  trend.setAttribute("viewBox", "0 0 96 24");
  trend.setAttribute("aria-hidden", "true");
  const line = document.createElementNS(SVG, "path");
  trend.append(line);
  cells.trend.append(trend);
  const badge = document.createElement("span");
  badge.className = "badge";
  cells.source.append(badge);
  const change = [document.createElement("span"), document.createElement("span")];
  cells.change.append(change[0], " ", change[1]);
  return { element: row, cells, change, line, badges: [badge, below] };
}

function render(quote) {
  changed.delete(quote);
  if (quote.row) draw(quote);
  quote.flash = 0;
}

function draw(quote) {
  const { cells, line, badges } = quote.row;
  const [amount, share] = quote.row.change;
  cells.price.textContent = quote.price;
  const change = difference(quote.first, quote.price);
  const percent = 100 * (Number(quote.price) / Number(quote.first) - 1);
  const sign = change.sign > 0 ? "+" : change.sign < 0 ? "−" : "";
  amount.textContent = `${sign}${change.text}`;
  share.textContent = Number.isFinite(percent) ? `(${sign}${Math.abs(percent).toFixed(2)} %)` : "";
  const direction = change.sign > 0 ? "up" : change.sign < 0 ? "down" : "flat";
  cells.change.dataset.direction = cells.trend.dataset.direction = direction;
  line.setAttribute("d", path(quote.trend));
  cells.size.textContent = quote.size ?? "–";
  cells.venue.textContent = quote.exchange ?? "–";
  const simulated = quote.source === "sim";
  for (const badge of badges) {
    badge.textContent = simulated ? "SIMULATED" : quote.source ?? "–";
    badge.toggleAttribute("data-simulated", simulated);
  }
  cells.time.textContent = clock(quote.timestamp);
  cells.time.title = quote.timestamp;
  cells.rate.textContent = quote.rate;
  if (quote.flash && quote.inSight) flash(cells.price, quote.flash > 0 ? "flash-up" : "flash-down");
}

function flash(cell, name) {
  cell.classList.remove("flash-up", "flash-down");
  // In the next frame the animation begins anew, without forcing a layout now.
  requestAnimationFrame(() => cell.classList.add(name));
}

function path(points) {
  const low = Math.min(...points);
  const span = Math.max(...points) - low || 1;
  const x = 96 / Math.max(points.length - 1, 1);
  return points
    .map((p, i) => `${i ? "L" : "M"}${(i * x).toFixed(1)} ${(22 - 20 * (p - low) / span).toFixed(1)}`)
    .join("");
}

function clock(timestamp) {
  const parts = /^(\d{4}-\d\d-\d\d)T(\d\d:\d\d:\d\d)(\.\d{1,3})?/.exec(timestamp);
  if (!parts) return timestamp;
  const today = new Date().toISOString().slice(0, 10);
  return `${parts[1] === today ? "" : `${parts[1]} `}${parts[2]}${parts[3] ?? ""} UTC`;
}

// Which quotes have a row, in order.
function arrange() {
  const wanted = at("filter").value.toUpperCase().split(/[\s,]+/).filter(Boolean);
  const matches = [...quotes.keys()]
    .filter((symbol) => !wanted.length || wanted.some((word) => symbol.toUpperCase().includes(word)))
    .sort();
  const shown = matches.slice(0, MAX_ROWS);
  const keep = new Set(shown);
  for (const quote of quotes.values()) {
    if (quote.row && !keep.has(quote.symbol)) {
      sight.unobserve(quote.row.element);
      quote.row.element.remove();
      quote.row = null;
      quote.inSight = false;
    }
  }
  let before = at("rows").firstChild;
  for (const symbol of shown) {
    const quote = quotes.get(symbol);
    if (!quote.row) {
      quote.row = rowOf(quote);
      sight.observe(quote.row.element);
      render(quote);
    }
    if (quote.row.element === before) before = before.nextSibling;
    else at("rows").insertBefore(quote.row.element, before);
  }
  at("symbols").textContent = quotes.size.toLocaleString("en");
  at("empty").hidden = shown.length > 0;
  at("empty").textContent = quotes.size ? "No symbol matches the filter." : "Waiting for the first price…";
  at("more").hidden = matches.length <= MAX_ROWS;
  at("more").textContent =
    `The first ${MAX_ROWS} of ${matches.length.toLocaleString("en")} symbols are shown: filter to see others.`;
}

function frame() {
  if (reordered) {
    reordered = false;
    arrange();
  }
  for (const quote of changed) if (quote.inSight) render(quote);
  requestAnimationFrame(frame);
}

// ---- connection ----------------------------------------------------------------------------

let socket = null;
let delayBound = FIRST_DELAY_MS;
let retryAfter = 0;
let retryTimer = 0;
let heardAt = 0;
let lastSeq = 0;
let settledSeq = 0; // everything up to here was shown: conflation may hold back what is newer
let rateSeq = 0;

// Where a session token is needed, an API key behind the address of the page (`#key=…`, which a
// browser sends to nobody) gets one.
const apiKey = new URLSearchParams(location.hash.slice(1)).get("key");

async function address() {
  if (!apiKey) return `${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/ws`;
  const headers = { Authorization: `Bearer ${apiKey}` };
  const answer = await fetch("/session", { method: "POST", headers });
  const session = await answer.json();
  if (!answer.ok) throw new Error(session.detail);
  return session.websocket_url;
}

async function connect() {
  clearTimeout(retryTimer);
  retryTimer = 0;
  status("connecting", "Connecting");
  const resume = settledSeq && Date.now() - heardAt < RESUME_WITHIN_MS;
  let url;
  try {
    url = await address();
  } catch (fault) {
    reconnect({ reason: fault.message });
    return;
  }
  const here = socket = new WebSocket(url);
  here.onopen = () => {
    heardAt = Date.now();
    const subscribe = { type: "subscribe", symbols: ["*"], conflate_ms: CONFLATE_MS };
    if (resume) subscribe.from_seq = settledSeq;
    here.send(JSON.stringify(subscribe));
  };
  here.onmessage = (event) => {
    if (here !== socket) return;
    heardAt = Date.now();
    try {
      receive(parse(event.data));
    } catch (fault) {
      complain(`A message could not be read: ${fault.message}`);
    }
  };
  here.onclose = (event) => {
    if (here === socket) reconnect(event);
  };
}

function receive(message) {
  switch (message.type) {
    case "price_update":
      live();
      for (const [symbol, update] of Object.entries(message.data)) {
        take(symbol, update);
        if (update.seq > lastSeq) lastSeq = update.seq;
      }
      break;
    case "subscribed":
      live();
      break;
    case "heartbeat":
      // Fewer ticks than before: the stream was made anew.
      if (message.seq < lastSeq) settledSeq = rateSeq = message.seq;
      lastSeq = message.seq;
      break;
    case "error":
      complain(message.message);
      break;
    case "closing":
      retryAfter = message.retry_after_ms ?? 0;
      break;
  }
}

function live() {
  delayBound = FIRST_DELAY_MS;
  if (at("status").dataset.state !== "live") status("live", "Live");
}

// Exponential backoff with full jitter, so that a thousand pages do not come back at once.
function reconnect(event) {
  socket = null;
  const delay = retryAfter + Math.random() * delayBound;
  retryAfter = 0;
  delayBound = Math.min(delayBound * 2, LONGEST_DELAY_MS);
  const why = event?.reason ? ` (${event.reason})` : "";
  status("offline", `Disconnected${why}, trying again in ${Math.max(1, Math.round(delay / 1000))} s`);
  retryTimer = setTimeout(connect, delay);
}

function status(state, text) {
  at("status").dataset.state = state;
  at("status").textContent = text;
  document.querySelector("main").toggleAttribute("data-stale", state !== "live");
}

function complain(text) {
  at("error-text").textContent = text;
  at("error").hidden = false;
}

setInterval(() => {
  notice();
  // Sequences count all ticks, also those that conflation left out.
  at("rate").textContent = (rateSeq ? Math.max(lastSeq - rateSeq, 0) : 0).toLocaleString("en");
  settledSeq = rateSeq;
  rateSeq = lastSeq;
  for (const quote of quotes.values()) {
    if (quote.rate !== quote.counted) changed.add(quote);
    quote.rate = quote.counted;
    quote.counted = 0;
  }
  changed.forEach(render);
  if (socket && socket.readyState === WebSocket.OPEN && Date.now() - heardAt > SILENCE_MS) {
    const silent = socket;
    reconnect({ reason: "the server fell silent" });
    silent.close();
  }
}, 1000);

addEventListener("online", () => retryTimer && connect());
at("filter").addEventListener("input", () => { reordered = true; });
at("error-close").addEventListener("click", () => { at("error").hidden = true; });
requestAnimationFrame(frame);
connect();
