// Panel imports modules through es-module-shims, which reads and rewrites each of them, 1.4 MB of
// components among them, on every load of a page. A browser that knows import maps imports what has
// an address itself, and keeps it compiled; what Panel writes at run time it leaves to the shim.
if (HTMLScriptElement.supports?.("importmap")) {
  const shim = self.importShim
  const direct = (module, ...rest) =>
    module.startsWith("blob:") ? shim(module, ...rest) : import(new URL(module, document.baseURI))
  self.importShim = Object.assign(direct, shim)
}
