"""The engines: one module each, all behind `chatkit.engine.Engine`."""
