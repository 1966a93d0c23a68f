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

// Watches the page that an element is shown in, until told to stop.
export function nameShell(element) {
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
  return () => observer.disconnect()
}
