// The status page. It asks for status.json every second and shows what is there. All text goes through textContent, since names
// and targets come from other machines; and rows are kept, so that little changes where little has changed.
"use strict";

(() => {
  const INTERVAL = 1000;
  const HIDDEN_INTERVAL = 10000;
  const DEADLINE = 3000;
  const MAX_ROWS = 200;
  const KEPT = 300;
  const SCHEMA = 1;

  const byId = (id) => document.getElementById(id);
  const noted = { received: [], sent: [], streams: [] };
  let pid = null;
  let last = null;
  let lastAt = 0;
  let goneSince = null;

  // What would not be seen, or would change how its neighbors are read, is written out.
  const shown = (text) =>
    String(text).replace(/[\p{Cc}\p{Cf}\p{Co}\p{Cn}\p{Cs}\p{Zl}\p{Zp}]/gu, (sign) => `\\u{${sign.codePointAt(0).toString(16)}}`);
  const set = (element, text) => {
    if (element.textContent !== text) element.textContent = text;
  };
  const put = (id, text) => set(byId(id), text);
  const hide = (id, hidden) => {
    const element = byId(id);
    if (element.hidden !== hidden) element.hidden = hidden;
  };

  const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
  const count = (number) => whole.format(number);
  const bytes = (number) => {
    const units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
    let unit = 0;
    while (number >= 1024 && unit < units.length - 1) {
      number /= 1024;
      unit += 1;
    }
    const digits = unit === 0 || number >= 100 ? 0 : number >= 10 ? 1 : 2;
    return `${number.toFixed(digits)} ${units[unit]}`;
  };
  const duration = (seconds) => {
    const days = Math.floor(seconds / 86400);
    const hours = Math.floor(seconds / 3600) % 24;
    const minutes = Math.floor(seconds / 60) % 60;
    if (days > 0) return `${days}d ${hours}h`;
    if (hours > 0) return `${hours}h ${minutes}m`;
    if (minutes > 0) return `${minutes}m ${Math.floor(seconds) % 60}s`;
    return `${Math.floor(seconds)}s`;
  };
  const moment = (text) => {
    const at = new Date(text);
    if (Number.isNaN(at.getTime())) return shown(text);
    const time = at.toLocaleTimeString("en-GB");
    return at.toDateString() === new Date().toDateString() ? time : `${at.toLocaleDateString("en-CA")} ${time}`;
  };
  const plural = (number, noun) => `${count(number)} ${noun}${number === 1 ? "" : "s"}`;

  // Rows by key. A cell is a text, or an object with text, and what else there is to it.
  const tables = new Map();
  const rows = (id, entries) => {
    const body = byId(id);
    const known = tables.get(id) || new Map();
    const next = new Map();
    let place = body.firstChild;
    for (const { key, cells } of entries) {
      if (next.has(key)) continue;
      let row = known.get(key);
      if (!row) {
        row = document.createElement("tr");
        cells.forEach((cell, index) => {
          const element = document.createElement(index === 0 ? "th" : "td");
          if (index === 0) element.scope = "row";
          if (cell.kind) element.className = cell.kind;
          row.append(element);
        });
      }
      cells.forEach((cell, index) => fill(row.children[index], cell));
      next.set(key, row);
      if (row === place) place = place.nextSibling;
      else body.insertBefore(row, place);
    }
    while (place) {
      const gone = place;
      place = place.nextSibling;
      gone.remove();
    }
    tables.set(id, next);
  };
  const fill = (element, cell) => {
    if (!cell.small && !cell.badge) {
      set(element, cell.text);
      return;
    }
    if (element.children.length === 0) {
      const inner = document.createElement("span");
      element.append(inner);
      if (cell.small) element.append(document.createElement("small"));
    }
    set(element.children[0], cell.text);
    if (cell.badge) element.children[0].className = `badge ${cell.badge}`;
    if (cell.small) set(element.children[1], cell.small);
  };
  const text = (value, kind) => ({ text: shown(value), kind });
  const number = (value, kind) => ({ text: value, kind: kind ? `number ${kind}` : "number" });

  // Facts are few, and mostly stay.
  const facts = (id, pairs) => {
    const list = byId(id);
    const wanted = pairs.filter(([, value]) => value !== undefined && value !== "");
    while (list.children.length > wanted.length * 2) list.lastChild.remove();
    wanted.forEach(([name, value, kind], index) => {
      if (list.children.length <= index * 2) list.append(document.createElement("dt"), document.createElement("dd"));
      set(list.children[index * 2], name);
      set(list.children[index * 2 + 1], shown(value));
      list.children[index * 2 + 1].className = kind || "";
    });
  };

  const SVG = "http://www.w3.org/2000/svg";
  const draw = (id, lines) => {
    const chart = byId(id);
    const most = Math.max(1, ...lines.flatMap(({ values }) => values));
    const [width, height] = [600, 140];
    const x = (index, length) => ((KEPT - length + index) * width) / (KEPT - 1);
    const y = (value) => height - 2 - (value / most) * (height - 12);
    if (chart.children.length === 0) {
      const grid = document.createElementNS(SVG, "path");
      grid.setAttribute("class", "grid");
      grid.setAttribute("d", [0.25, 0.5, 0.75].map((part) => `M0 ${part * height}H${width}`).join(""));
      chart.append(grid);
      for (const { name } of lines) {
        for (const kind of ["area ", ""]) {
          const path = document.createElementNS(SVG, "path");
          path.setAttribute("class", kind + name);
          chart.append(path);
        }
      }
    }
    lines.forEach(({ values }, index) => {
      const points = values.map((value, at) => `${x(at, values.length).toFixed(1)} ${y(value).toFixed(1)}`);
      const line = points.length > 1 ? `M${points.join("L")}` : "";
      const area = line && `${line}V${height}H${x(0, values.length).toFixed(1)}Z`;
      chart.children[1 + index * 2].setAttribute("d", area);
      chart.children[2 + index * 2].setAttribute("d", line);
    });
    return most;
  };

  const charts = () => {
    const length = noted.streams.length;
    const from = "5 min ago";
    const traffic = draw("traffic", [
      { name: "received", values: noted.received },
      { name: "sent", values: noted.sent },
    ]);
    const streams = draw("open-chart", [{ name: "streams", values: noted.streams }]);
    const latest = (name) => noted[name][length - 1] || 0;
    put("traffic-from", from);
    put("open-chart-from", from);
    put("traffic-most", `most ${bytes(traffic === 1 ? 0 : traffic)}/s`);
    put("open-chart-most", `most ${count(Math.max(0, ...noted.streams))}`);
    byId("traffic").setAttribute(
      "aria-label",
      `Bytes per second over five minutes: received ${bytes(latest("received"))}, sent ${bytes(latest("sent"))}, most ${bytes(traffic)}`,
    );
    byId("open-chart").setAttribute("aria-label", `Open streams over five minutes: now ${latest("streams")}, most ${streams}`);
  };

  const note = (status) => {
    const add = (name, value) => {
      noted[name].push(value);
      if (noted[name].length > KEPT) noted[name].shift();
    };
    const traffic = status.traffic || {};
    add("received", traffic.received_per_second || 0);
    add("sent", traffic.sent_per_second || 0);
    add("streams", status.streams);
  };

  /// What there is to say about streams besides their number.
  const streamsMore = ({ resumption, dropped_datagrams }) => {
    const { held = 0, resumed = 0, lost = 0 } = resumption || {};
    const parts = [];
    if (held > 0) parts.push(`${count(held)} paused`);
    if (resumed > 0) parts.push(`${count(resumed)} resumed`);
    if (lost > 0) parts.push(`${count(lost)} lost`);
    if (dropped_datagrams > 0) parts.push(`${plural(dropped_datagrams, "datagram")} dropped`);
    return parts.length > 0 ? parts.join(", ") : "none lost";
  };

  const showOpen = (status) => {
    const wanted = byId("filter").value.trim().toLowerCase();
    const open = status.open || [];
    const fits = open.filter(({ client, target }) => !wanted || `${client}\n${target}`.toLowerCase().includes(wanted));
    rows(
      "open",
      fits.slice(0, MAX_ROWS).map((entry) => ({
        key: `${entry.client}\n${entry.target}`,
        cells: [
          text(entry.client, "of-server"),
          text(entry.target, "code"),
          number(count(entry.streams)),
          number(bytes(entry.bytes)),
          { text: moment(entry.since), kind: "wide" },
        ],
      })),
    );
    const notes = [];
    if (open.length === 0) notes.push("Nothing is open.");
    else if (fits.length === 0) notes.push("Nothing that is open fits the filter.");
    if (fits.length > MAX_ROWS) notes.push(`${count(fits.length - MAX_ROWS)} more with fewer bytes: filter to see them.`);
    if (status.open_left_out > 0) notes.push(`${count(status.open_left_out)} more are left out of status.json.`);
    put("open-note", notes.join(" "));
  };

  const showServer = (status) => {
    const clients = status.clients || [];
    const all = clients.length + (status.clients_left_out || 0);
    put("clients-count", count(all));
    put("clients-more", plural(status.leases, "lease"));
    hide("clients-section", false);
    rows(
      "clients",
      clients.slice(0, MAX_ROWS).map((client) => ({
        key: `${client.name}\n${client.identity}`,
        cells: [
          { text: shown(client.name), small: shown(client.identity) },
          text(client.from, "code"),
          number(count(client.streams)),
          number(count(client.channels), "wide"),
          number(bytes(client.received), "wide"),
          number(bytes(client.sent), "wide"),
          { text: moment(client.since), kind: "wide" },
        ],
      })),
    );
    const hidden = all - Math.min(clients.length, MAX_ROWS);
    put("clients-note", all === 0 ? "Nobody is in." : hidden > 0 ? `${plural(hidden, "more client")}.` : "");
    const leased = status.leased || [];
    hide("leased-section", status.leases === 0 && leased.length === 0);
    rows("leased", leased.slice(0, MAX_ROWS).map(({ address, client }) => ({ key: address, cells: [text(address, "code"), text(client)] })));
    const others = status.leases - Math.min(leased.length, MAX_ROWS);
    put("leased-note", others > 0 ? `${plural(others, "more address")}.` : "");
    const tried = status.invites_tried || [];
    hide("invites-section", !status.invites && tried.length === 0);
    if (status.invites) {
      const { open, used, expired, revoked } = status.invites;
      facts("invites", [["Open", count(open)], ["Used", count(used)], ["Expired", count(expired)], ["Revoked", count(revoked)]]);
    }
    hide("tried-table", tried.length === 0);
    rows(
      "tried",
      tried.map((entry) => ({
        key: `${entry.id}\n${entry.key}`,
        cells: [text(entry.id, "code"), text(entry.key, "code"), text(entry.from, "code"), number(count(entry.count))],
      })),
    );
  };

  const showClient = (status) => {
    const servers = status.servers || [];
    const forwards = status.forwards || [];
    hide("servers-section", servers.length === 0);
    hide("forwards-section", forwards.length === 0);
    rows(
      "servers",
      servers.map((server) => ({
        key: server.address,
        cells: [
          text(server.address, "code"),
          { text: server.is_connected ? "connected" : "out of reach", badge: server.is_connected ? "good" : "bad" },
          number(count(server.reconnects)),
        ],
      })),
    );
    rows(
      "forwards",
      forwards.slice(0, MAX_ROWS).map((forward) => ({
        key: `${forward.kind}\n${forward.server}\n${forward.listen}\n${forward.target}`,
        cells: [text(forward.kind), text(forward.listen, "code"), text(forward.target || "what each asks for", "code"), text(forward.server, "code wide")],
      })),
    );
    hide("open-section", (status.open || []).length === 0);
  };

  const show = (status) => {
    const traffic = status.traffic || { received: 0, sent: 0 };
    const isServer = status.program === "server";
    document.body.classList.toggle("of-client", !isServer);
    for (const element of document.querySelectorAll("[data-for=server]")) element.hidden = !isServer;
    put("program", shown(status.program));
    put("version", `version ${shown(status.version)}, process ${status.pid}`);
    put("streams", count(status.streams));
    put("streams-more", streamsMore(status));
    put("channels", count(status.channels));
    put("channels-more", `${count(status.idle_channels)} idle`);
    put("received", bytes(traffic.received));
    put("sent", bytes(traffic.sent));
    put("received-more", `${bytes(traffic.received_per_second || 0)}/s`);
    put("sent-more", `${bytes(traffic.sent_per_second || 0)}/s`);
    put("uptime", duration(status.uptime_seconds));
    put("uptime-more", plural(status.tasks, "task"));
    if (isServer) showServer(status);
    else showClient(status);
    showOpen(status);
    const refused = status.refused || [];
    rows("refused", refused.slice(0, MAX_ROWS).map(({ what, reason, count: times }) => ({
      key: `${what}\n${reason}`,
      cells: [text(what), text(String(reason).replaceAll("_", " ")), number(count(times))],
    })));
    put("refused-note", refused.length === 0 ? "Nothing was refused, and nothing has failed." : "");
    const identity = status.identity || {};
    const modes = { rsa: "server key (RSA), with ML-KEM and X25519", psk: "pre-shared keys" };
    facts("about", [
      ["Key", identity.fingerprint, "code"],
      ["Key age", identity.key_age_seconds === undefined ? undefined : duration(identity.key_age_seconds)],
      ["Mode", identity.mode && (modes[identity.mode] || identity.mode)],
      ["Suite", identity.suite, "code"],
      ["Listens on", (status.listening || []).join(", "), "code"],
      ["Process", String(status.pid), "code"],
    ]);
    const list = byId("protection");
    (status.protection || []).forEach(({ name, holds }, index) => {
      const item = list.children[index] || list.appendChild(document.createElement("li"));
      set(item, shown(name));
      item.className = holds ? "holds" : "";
      item.title = holds ? "holds" : "does not hold";
    });
    const state = byId("state");
    const word = status.draining ? "draining" : "live";
    if (state.dataset.state !== word) {
      state.dataset.state = word;
      set(state, status.draining ? "draining: nothing new is taken" : "live");
    }
    document.title = `${status.draining ? "draining · " : ""}${count(status.streams)} open · Sockseal ${shown(status.program)}`;
  };

  const showGone = (reason) => {
    if (goneSince === null) {
      goneSince = new Date();
      const state = byId("state");
      state.dataset.state = "gone";
      set(state, "no answer");
      put("gone", `There has been no answer since ${goneSince.toLocaleTimeString("en-GB")} (${reason}). The figures below are from before; this page goes on asking.`);
      hide("gone", false);
      document.title = "no answer · Sockseal";
    }
  };

  const get = async (path) => {
    const response = await fetch(path, { cache: "no-store", credentials: "omit", signal: AbortSignal.timeout(DEADLINE) });
    if (!response.ok) throw new Error(`${response.status} ${response.statusText}`.trim());
    return response.json();
  };

  const turn = async () => {
    try {
      const status = await get("status.json");
      if (status.schema !== SCHEMA) throw new Error("another version of status.json: load this page again");
      if (pid !== null && pid !== status.pid) {
        // Another process, perhaps with another page.
        location.reload();
        return;
      }
      pid = status.pid;
      if (goneSince !== null) {
        goneSince = null;
        hide("gone", true);
      }
      last = status;
      // After a time in the background, or of silence, the server knows better what has been.
      if (lastAt === 0 || Date.now() - lastAt > 2.5 * INTERVAL) {
        const before = await get("history.json");
        for (const name of Object.keys(noted)) noted[name] = before[name].slice(-KEPT);
      } else {
        note(status);
      }
      lastAt = Date.now();
      show(status);
      charts();
    } catch (error) {
      showGone(error.name === "TimeoutError" ? "it takes too long" : error.message);
    }
    schedule();
  };

  let timer = null;
  const schedule = () => {
    clearTimeout(timer);
    timer = setTimeout(turn, document.hidden ? HIDDEN_INTERVAL : INTERVAL);
  };
  document.addEventListener("visibilitychange", () => {
    if (!document.hidden && timer !== null) {
      clearTimeout(timer);
      timer = setTimeout(turn, 0);
    }
  });
  byId("filter").addEventListener("input", () => {
    if (last !== null) showOpen(last);
  });
  turn();
})();
