// Names and roles that the page around the conversation lacks: who cannot see it hears them.

const NAMES = [
  [".MuiLinearProgress-root", {"aria-label": "Loading"}],
  // Room above a drawer's content, made as a heading without words.
  [".MuiToolbar-root > h5:not(.title)", {role: "presentation"}],
  [".MuiPaper-elevation16[role=dialog], .contextbar", {"aria-label": "Settings"}],
  ["span[sx][aria-label]", {role: "img"}],
  ["[aria-label='Open contextbar']", {"aria-label": "Open settings"}],
  ["[aria-label='Close contextbar']", {"aria-label": "Close settings"}],
  ["[aria-label='Open drawer']", {"aria-label": "Open conversations"}],
  ["[aria-label='Close drawer']", {"aria-label": "Close conversations"}],
]

function roots(root) {
  const inner = [...root.querySelectorAll("*")].filter(one => one.shadowRoot)
  return [root, ...inner.flatMap(one => roots(one.shadowRoot))]
}

function mend(root) {
  for (const [selector, attributes] of NAMES) {
    for (const one of root.querySelectorAll(selector)) {
      for (const [name, value] of Object.entries(attributes)) {
        if (one.getAttribute(name) !== value) { one.setAttribute(name, value) }
      }
    }
  }
  root.querySelectorAll("nav").forEach((nav, place) => {
    if (!nav.hasAttribute("aria-label")) {
      nav.setAttribute("aria-label", place ? "Settings" : "Sidebar")
    }
  })
}

// The first thing that Tab comes to leads past everything before the message field.
function skipLink(to) {
  const link = document.createElement("a")
  link.href = "#message"
  link.textContent = "Skip to the message"
  const hide = () => { link.style.cssText = "position: absolute; left: -100vw" }
  link.addEventListener("focus", () => {
    link.style.cssText = "position: fixed; top: 8px; left: 8px; z-index: 2000; padding: 12px 16px; "
      + "border-radius: 8px; background: #1b1f27; color: #fff; font: 600 16px/1.2 system-ui, sans-serif"
  })
  link.addEventListener("blur", hide)
  link.addEventListener("click", event => {
    event.preventDefault()
    to.focus()
  })
  hide()
  const nav = document.createElement("nav")
  nav.setAttribute("aria-label", "Shortcut")
  nav.append(link)
  document.body.prepend(nav)
  return nav
}

const shellOf = element => {
  let root = element.getRootNode()
  while (root.host) { root = root.host.getRootNode() }
  return root
}

// Whether somebody is in a dialog, or writes in another field: then the focus stays where it is.
export function focusIsTaken(field) {
  let at = document.activeElement
  while (at?.shadowRoot?.activeElement) { at = at.shadowRoot.activeElement }
  if (at !== field && at?.matches("input, textarea, select")) { return true }
  for (; at; at = at.parentElement ?? at.getRootNode().host) {
    if (at.matches("dialog, [role=dialog]")) { return true }
  }
  return false
}

// Opens or closes the drawer of conversations, as its own button does.
export function showSidebar(element, shown) {
  const labels = (shown ? ["Open conversations", "Open drawer"] : ["Close conversations", "Close drawer"])
    .map(label => `[aria-label='${label}']`).join(", ")
  for (const root of roots(shellOf(element))) { root.querySelector(labels)?.click() }
}

// Watches the page that an element is shown in, until told to stop.
export function nameShell(element, field) {
  const shell = element.getRootNode().host?.getRootNode()
  if (!shell?.querySelectorAll) { return () => {} }
  let due = 0
  const observer = new MutationObserver(() => {
    cancelAnimationFrame(due)
    due = requestAnimationFrame(all)
  })
  const all = () => { for (const root of roots(shell)) { mend(root) } }
  observer.observe(shell, {subtree: true, childList: true, attributes: true, attributeFilter: ["aria-label"]})
  all()
  const link = skipLink(field)
  return () => {
    observer.disconnect()
    link.remove()
  }
}
