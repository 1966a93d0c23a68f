// What the browser keeps: whose page this is, what the server has not stored yet, and a draft.

const VISITOR = "chatkit.visitor"
const OUTBOX = "chatkit.outbox"
const TAB = "chatkit.tab"
const DRAFT = "chatkit.draft"
const RELOADED = "chatkit.reloaded"
// A text without a conversation belongs to the tab where it was written, unless that has gone.
const ORPHANED_MS = 30_000

const secret = bytes =>
  Array.from(crypto.getRandomValues(new Uint8Array(bytes)), one => one.toString(16).padStart(2, "0"))
    .join("")

// A browser that forbids its storage still has the page's memory.
const safe = open => {
  const memory = new Map()
  return {
    get(key) {
      try { return open().getItem(key) ?? memory.get(key) ?? "" } catch { return memory.get(key) ?? "" }
    },
    set(key, value) {
      memory.set(key, value)
      try { open().setItem(key, value) } catch { /* the memory has it */ }
    },
    remove(key) {
      memory.delete(key)
      try { open().removeItem(key) } catch { /* nor was it there */ }
    },
  }
}

const forever = safe(() => window.localStorage)
const tab = safe(() => window.sessionStorage)

// In a browser that several people use, nobody's text is sent in another's name.
let owner = ""
export const keepFor = account => { owner = account }
const mine = name => owner ? `${name}.${owner}` : name

const own = (store, key, bytes) => {
  if (!store.get(key)) { store.set(key, secret(bytes)) }
  return store.get(key)
}

export const newId = () => secret(16)
export const visitor = () => own(forever, VISITOR, 32)

// Each conversation has its own draft. That of one without a name belongs to the tab, and a
// temporary one leaves nothing behind.
const draftOf = conversation => {
  const lasting = conversation && !conversation.startsWith("tmp")
  return [lasting ? forever : tab, mine(conversation ? `${DRAFT}.${conversation}` : DRAFT)]
}

export const draft = {
  get(conversation) {
    const [store, key] = draftOf(conversation)
    return store.get(key)
  },
  set(conversation, text) {
    const [store, key] = draftOf(conversation)
    if (text) { store.set(key, text) } else { store.remove(key) }
  },
}

export const reloads = {
  secondsAgo: () => (Date.now() - Number(tab.get(RELOADED))) / 1000,
  note: () => tab.set(RELOADED, String(Date.now())),
}

const read = () => {
  try { return JSON.parse(forever.get(mine(OUTBOX)) || "[]") } catch { return [] }
}
const write = entries => forever.set(mine(OUTBOX), JSON.stringify(entries))

// An entry: id, kind (`send` or `edit`), conversation, parent or node, text, and a sentence when
// the server refused it.
export const outbox = {
  of(conversation) {
    const here = one => one.tab === own(tab, TAB, 8) || Date.now() - one.at > ORPHANED_MS
    return read().filter(one =>
      one.conversation === conversation && (conversation || here(one)))
  },
  add(entry) {
    write([...read(), {...entry, tab: own(tab, TAB, 8), at: Date.now(), sentence: ""}])
  },
  change(id, fields) {
    write(read().map(one => one.id === id ? {...one, ...fields} : one))
  },
  // Two tabs may begin a conversation for the same text; it goes where the first one put it.
  settle(id, conversation) {
    const entry = read().find(one => one.id === id)
    if (entry && !entry.conversation) { outbox.change(id, {conversation}) }
    return read().find(one => one.id === id)
  },
  has: id => read().some(one => one.id === id),
  remove: id => write(read().filter(one => one.id !== id)),
}
