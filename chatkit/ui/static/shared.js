// What the parts of the page know together: which conversation is shown, and what is preferred.

const listeners = new Set()
const tell = () => { for (const one of [...listeners]) { one() } }

let conversation = new URL(location).searchParams.get("conversation") ?? ""

const address = id => {
  const url = new URL(location)
  url.searchParams.delete("conversation")
  if (id) { url.searchParams.set("conversation", id) }
  return url
}

export const here = {
  get conversation() { return conversation },
  address: id => address(id).href,
  // Another conversation is another step of the browser's history; a new one that gets its name
  // is not.
  show(id, {replace}) {
    const url = address(id)
    if (url.href !== location.href) {
      history[replace ? "replaceState" : "pushState"](history.state, "", url)
    }
    if (id !== conversation) {
      conversation = id
      tell()
    }
  },
  listen: call => listeners.add(call),
  forget: call => listeners.delete(call),
}

const dark = matchMedia("(prefers-color-scheme: dark)")
let wanted = {
  theme: "system", language: "", text_size: 16, still: false, enter_sends: true, speaks: true, notifies: false, previews: false, trains: false, pinned: [], folders: [], prompts: [],
}

export const preferred = () => wanted
// How dates are written; undefined is as the browser has it.
export const dateLanguage = () => wanted.language || undefined
export const isDark = () => ({light: false, dark: true}[wanted.theme] ?? dark.matches)

export function prefer(now) {
  wanted = now
  const root = document.documentElement
  root.style.fontSize = now.text_size === 16 ? "" : `${now.text_size}px`
  root.classList.toggle("chatkit-still", now.still)
  tell()
}

dark.addEventListener("change", tell)
