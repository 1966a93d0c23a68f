// The conversations of a visitor. What the server sends: list, found, undo, file, preferences.
// What it is sent: library (more, find, rename, pin, delete, undo, export, import, prefer), open, new.

import {draft} from "../../../../static/extensions/chatkit/kept.js"
import {button, make, wordButton} from "../../../../static/extensions/chatkit/message.js"
import {dateLanguage, here, prefer, preferred} from "../../../../static/extensions/chatkit/shared.js"

const DAY = 86_400_000
const UNTITLED = "New chat"
const SETTLE_MS = 600
const LARGEST_FILE = 10_000_000

// The heading under which a conversation stands, by the visitor's own days.
function heading(item) {
  if (item.pinned) { return "Pinned" }
  const today = new Date().setHours(0, 0, 0, 0)
  const at = new Date(1000 * item.updated)
  if (at >= today) { return "Today" }
  if (at >= today - DAY) { return "Yesterday" }
  if (at >= today - 7 * DAY) { return "Previous 7 days" }
  if (at >= today - 30 * DAY) { return "Previous 30 days" }
  return new Intl.DateTimeFormat(dateLanguage(), {month: "long", year: "numeric"}).format(at)
}

function save({name, kind, text}) {
  const link = make("a", "said")
  link.href = URL.createObjectURL(new Blob([text], {type: kind}))
  link.download = name
  link.click()
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000)
}

// A menu under a button: arrows go through it, Escape and a press elsewhere close it.
function menu(label, entries) {
  const box = make("div", "menu-box")
  const list = make("div", "menu")
  const opener = button("more", label, () => { list.hidden ? open() : close() })
  const items = entries.map(([text, act]) => {
    const item = wordButton("item", text, () => { close(); act() })
    item.setAttribute("role", "menuitem")
    item.tabIndex = -1
    return item
  })
  const elsewhere = event => { if (!event.composedPath().includes(box)) { close(false) } }
  const open = () => {
    list.hidden = false
    opener.setAttribute("aria-expanded", "true")
    document.addEventListener("pointerdown", elsewhere, true)
    box.closest(".list").addEventListener("scroll", scrolled, {once: true})
    place()
    items[0].focus()
  }
  // Above everything: the list of conversations would cut it off.
  const place = () => {
    list.showPopover()
    const [at, size] = [opener, list].map(one => one.getBoundingClientRect())
    const below = at.bottom + size.height + 8 <= window.innerHeight
    list.style.left = `${Math.max(8, at.right - size.width)}px`
    list.style.top = `${below ? at.bottom : Math.max(8, at.top - size.height)}px`
  }
  const scrolled = () => close(false)
  const close = (back = true) => {
    if (!list.hidden) { list.hidePopover() }
    list.hidden = true
    opener.setAttribute("aria-expanded", "false")
    document.removeEventListener("pointerdown", elsewhere, true)
    if (back) { opener.focus() }
  }
  list.hidden = true
  list.popover = "manual"
  list.setAttribute("role", "menu")
  list.setAttribute("aria-label", label)
  opener.setAttribute("aria-haspopup", "menu")
  opener.setAttribute("aria-expanded", "false")
  box.addEventListener("keydown", event => {
    if (list.hidden) { return }
    const at = items.indexOf(box.getRootNode().activeElement)
    const to = {ArrowDown: at + 1, ArrowUp: at - 1 + items.length, Home: 0, End: items.length - 1}
    if (event.key in to) {
      event.preventDefault()
      items[to[event.key] % items.length].focus()
    } else if (event.key === "Escape" || event.key === "Tab") {
      event.stopPropagation()
      close()
    }
  })
  list.append(...items)
  box.append(opener, list)
  return box
}

function entry(item, act) {
  const element = make("li", "entry")
  const link = make("a", "title", item.title || UNTITLED)
  link.href = here.address(item.id)
  link.title = link.textContent
  if (item.id === here.conversation) { link.setAttribute("aria-current", "page") }
  link.addEventListener("click", event => {
    if (event.ctrlKey || event.metaKey || event.shiftKey) { return }
    event.preventDefault()
    act.open(item.id)
  })
  element.dataset.id = item.id
  element.append(link, menu(`Menu of ${link.textContent}`, [
    [item.pinned ? "Unpin" : "Pin", () => act.do({do: "pin", of: item.id, pinned: !item.pinned})],
    ["Rename", () => rename(element, item, act)],
    ["Put into a folder", () => act.file(item)],
    ["Save as Markdown", () => act.do({do: "export", of: item.id, kind: "md"})],
    ["Save as JSON", () => act.do({do: "export", of: item.id, kind: "json"})],
    ["Save as a page", () => act.do({do: "export", of: item.id, kind: "html"})],
    ["Delete", () => act.do({do: "delete", of: item.id})],
  ]))
  return element
}

function rename(element, item, act) {
  const field = make("input", "rename")
  field.value = item.title
  field.maxLength = 200
  field.setAttribute("aria-label", "Title")
  const end = keep => {
    if (!field.isConnected) { return }
    const title = field.value.trim()
    field.replaceWith(link)
    link.focus()
    if (keep && title && title !== item.title) { act.do({do: "rename", of: item.id, title}) }
  }
  field.addEventListener("keydown", event => {
    event.stopPropagation()
    if (event.key === "Enter" && !event.isComposing) { end(true) }
    if (event.key === "Escape") { end(false) }
  })
  field.addEventListener("blur", () => end(true))
  const link = element.querySelector(".title")
  link.replaceWith(field)
  field.select()
}

// Asks for one line of text, with what there is to choose from.
function question(label) {
  const box = make("dialog", "settings")
  const field = make("input", "answer")
  const known = make("datalist", "")
  let asked = null
  known.id = "chatkit-known"
  field.maxLength = 40
  field.setAttribute("list", known.id)
  const labelled = make("label", "labelled")
  labelled.append(make("span", "", label), field)
  const form = make("form", "")
  form.method = "dialog"
  const row = make("div", "row")
  const keep = wordButton("keep", "Save", () => {})
  keep.type = "submit"
  row.append(wordButton("cancel", "Cancel", () => box.close()), keep)
  form.addEventListener("submit", () => asked?.(field.value.trim()))
  form.append(labelled, known, row)
  box.setAttribute("aria-label", label)
  box.append(form)
  const ask = (before, choices, then) => {
    asked = then
    field.value = before
    known.replaceChildren(...choices.map(one => new Option(one, one)))
    box.showModal()
    field.select()
  }
  return {box, ask}
}

const CHOICES = [
  ["system", "As the system"], ["light", "Light"], ["dark", "Dark"], ["contrast", "High contrast"],
]
// Written each in its own language, as whoever looks for it would read it.
const LANGUAGES = [
  "ar", "cs", "da", "de", "el", "en-GB", "en-US", "es", "fa", "fi", "fr", "he", "hi", "hu", "id", "it", "ja", "ko",
  "nb", "nl", "pl", "pt-BR", "pt-PT", "ro", "ru", "sv", "th", "tr", "uk", "vi", "zh-CN", "zh-TW",
]
const SWITCHES = [
  ["still", "Nothing moves"],
  ["enter_sends", "Enter sends; Shift+Enter begins a line"],
  ["speaks", "Screen readers are told finished answers"],
  ["notifies", "The browser tells when a long answer has ended out of sight"],
  ["previews", "Links in answers show what they lead to; this server looks at the pages"],
  ["trains", "What I say and vote may train models"],
]

function settings(act, previews) {
  const box = make("dialog", "settings")
  const title = make("h2", "", "Preferences")
  const themes = make("fieldset", "themes")
  themes.append(make("legend", "", "Theme"))
  for (const [value, text] of CHOICES) {
    const [label, radio] = [make("label", "choice"), make("input", "")]
    radio.type = "radio"
    radio.name = "theme"
    radio.value = value
    radio.addEventListener("change", () => act.prefer({theme: value}))
    label.append(radio, make("span", "", text))
    themes.append(label)
  }
  const sizes = make("label", "size")
  const size = make("input", "")
  const shown = make("output", "")
  Object.assign(size, {type: "range", min: 12, max: 24, step: 1})
  size.addEventListener("input", () => { shown.textContent = `${size.value} px` })
  size.addEventListener("change", () => act.prefer({text_size: Number(size.value)}))
  sizes.append(make("span", "", "Text size"), size, shown)
  const languages = make("label", "language")
  const language = make("select", "")
  language.append(new Option("As the browser", ""), ...LANGUAGES.map(one =>
    new Option(new Intl.DisplayNames([one], {type: "language"}).of(one), one)))
  language.addEventListener("change", () => act.prefer({language: language.value}))
  languages.append(make("span", "", "Language of dates"), language)
  const switches = SWITCHES.filter(([name]) => previews || name !== "previews").map(([name, text]) => {
    const [label, one] = [make("label", "choice"), make("input", "")]
    one.type = "checkbox"
    one.addEventListener("change", async () => {
      const asks = name === "notifies" && one.checked
      if (asks && await window.Notification?.requestPermission() !== "granted") {
        // The browser forbids it, so it is no preference.
        one.checked = false
      }
      act.prefer({[name]: one.checked})
    })
    label.append(one, make("span", "", text))
    return [name, one, label]
  })
  const close = wordButton("close", "Close", () => box.close())
  box.setAttribute("aria-label", "Preferences")
  box.append(title, themes, sizes, languages, ...switches.map(([, , label]) => label), close)
  const show = now => {
    for (const radio of themes.querySelectorAll("input")) { radio.checked = radio.value === now.theme }
    size.value = now.text_size
    language.value = now.language
    shown.textContent = `${now.text_size} px`
    for (const [name, one] of switches) { one.checked = now[name] }
  }
  return {box, show}
}

function render({model}) {
  const root = make("div", "sidebar")
  const top = make("div", "top")
  const search = make("input", "search")
  const nav = make("nav", "list")
  const toast = make("div", "toast")
  const picker = make("input", "said")
  let items = []
  let more = false
  let found = null
  const closed = new Set()
  let waiting = 0
  let changed = 0
  let settling = 0

  const act = {
    open: conversation => model.send_msg({type: "open", conversation}),
    do: wish => model.send_msg({type: "library", ...wish}),
    prefer(values) {
      changed = Date.now()
      prefer({...preferred(), ...values})
      act.do({do: "prefer", values})
    },
  }
  const fresh = wordButton("fresh", "New chat", () => model.send_msg({type: "new"}))
  const hidden = wordButton("hidden-chat", "Temporary chat", () =>
    model.send_msg({type: "new", temporary: true}))
  hidden.title = "In no list and no file; it ends with the server"
  const preferences = settings(act, model.previews)
  const folder = question("Folder; empty for none")
  const names = () => [...new Set(items.map(item => item.folder).filter(Boolean))].sort()
  act.file = item => folder.ask(item.folder, names(), name =>
    act.do({do: "file", of: item.id, folder: name}))

  const group = (title, entries) => {
    const list = make("ul", "entries")
    list.setAttribute("aria-label", title)
    list.append(...entries)
    return [make("h2", "heading", title), list]
  }
  // Open or closed as it was left, in this page.
  const folderOf = (name, inside) => {
    const box = make("details", "folder")
    const summary = make("summary", "heading", `${name} · ${inside.length}`)
    const list = make("ul", "entries")
    box.open = !closed.has(name)
    box.addEventListener("toggle", () => { if (box.open) { closed.delete(name) } else { closed.add(name) } })
    list.setAttribute("aria-label", name)
    list.append(...inside.map(item => entry(item, act)))
    const row = make("div", "folder-row")
    row.append(box, menu(`Menu of the folder ${name}`, [
      ["Rename", () => folder.ask(name, names(), now => {
        if (now && now !== name) { act.do({do: "rename folder", folder: name, name: now}) }
      })],
      ["Dissolve", () => act.do({do: "rename folder", folder: name, name: ""})],
    ]))
    box.append(summary, list)
    return row
  }
  const show = () => {
    const focused = root.getRootNode().activeElement?.closest?.(".entry")?.dataset.id
    const parts = []
    if (found) {
      const entries = found.hits.map(hit => {
        const element = make("li", "entry hit")
        const link = make("a", "title", hit.title || UNTITLED)
        link.href = here.address(hit.id)
        link.append(make("span", "snippet", hit.snippet))
        link.addEventListener("click", event => { event.preventDefault(); act.open(hit.id) })
        element.append(link)
        return element
      })
      parts.push(...group(entries.length ? "Found" : "Nothing was found", entries))
    } else {
      const groups = new Map()
      for (const name of names()) {
        parts.push(folderOf(name, items.filter(item => item.folder === name && !item.pinned)))
      }
      for (const item of items.filter(one => one.pinned || !one.folder)) {
        const title = heading(item)
        groups.set(title, [...groups.get(title) ?? [], entry(item, act)])
      }
      if (groups.has("Pinned")) {
        parts.unshift(...group("Pinned", groups.get("Pinned")))
        groups.delete("Pinned")
      }
      for (const [title, entries] of groups) { parts.push(...group(title, entries)) }
      if (more) { parts.push(wordButton("older", "Older", () => act.do({do: "more"}))) }
    }
    nav.replaceChildren(...parts)
    if (focused) { nav.querySelector(`[data-id="${CSS.escape(focused)}"] .title`)?.focus() }
  }
  const obey = {
    list(now) {
      items = now.items
      more = now.more
      // Somebody who renames is not disturbed.
      if (!nav.querySelector(".rename, .menu:not([hidden])")) { show() }
    },
    found(now) {
      if (now.query !== search.value) { return }
      found = now.query.trim() ? now : null
      show()
    },
    undo({id, title, seconds}) {
      clearTimeout(waiting)
      const forgetting = setTimeout(() => draft.set(id, ""), 1000 * seconds)
      const back = wordButton("back", "Undo", () => {
        clearTimeout(forgetting)
        toast.replaceChildren()
        act.do({do: "undo", of: id})
      })
      toast.replaceChildren(make("span", "", `Deleted “${title || UNTITLED}”`), back)
      waiting = setTimeout(() => toast.replaceChildren(), 1000 * seconds)
    },
    file: save,
    preferences({preferences: now}) {
      // What is still being changed here is newer than what the server says of the change before.
      clearTimeout(settling)
      const wait = Math.max(0, changed + SETTLE_MS - Date.now())
      settling = setTimeout(() => { prefer(now); preferences.show(now) }, wait)
    },
  }

  search.type = "search"
  search.placeholder = "Search"
  search.setAttribute("aria-label", "Search conversations")
  let typed = 0
  search.addEventListener("input", () => {
    clearTimeout(typed)
    typed = setTimeout(() => act.do({do: "find", query: search.value}), 200)
  })
  picker.type = "file"
  picker.accept = ".json,.jsonl"
  picker.tabIndex = -1
  picker.setAttribute("aria-label", "File to import")
  picker.addEventListener("change", async () => {
    const [file] = picker.files
    picker.value = ""
    if (!file) { return }
    if (file.size > LARGEST_FILE) {
      toast.replaceChildren(make("span", "", `${file.name} has ${(file.size / 1e6).toFixed(0)} MB; `
        + "more than 10 MB are imported with `python -m chatkit conversations import`."))
      return
    }
    act.do({do: "import", name: file.name, text: await file.text()})
  })
  nav.setAttribute("aria-label", "Conversations")
  toast.setAttribute("role", "status")
  const foot = make("div", "foot")
  foot.append(
    wordButton("import", "Import", () => picker.click()),
    wordButton("export", "Export all", () => act.do({do: "export all"})),
    wordButton("compare", "Compare models", () => model.send_msg({type: "compare"})),
    wordButton("prefer", "Preferences", () => preferences.box.showModal()),
  )
  if (model.person) {
    const who = make("div", "who")
    const place = (text, path) => {
      const link = make("a", "", text)
      link.href = path
      return link
    }
    who.append(place(model.person, "account"), ...model.admin ? [place("Administration", "admin")] : [],
      place("Sign out", "logout"))
    foot.append(who)
  }
  top.append(fresh, hidden, search)
  root.append(top, nav, toast, foot, picker, preferences.box, folder.box)
  const paint = () => root.classList.toggle("contrast", preferred().theme === "contrast")
  here.listen(show)
  here.listen(paint)
  model.on("msg:custom", event => obey[event.op](event))
  model.on("remove", () => { here.forget(show); here.forget(paint) })
  model.send_msg({type: "sidebar"})
  return root
}

export default {render}
