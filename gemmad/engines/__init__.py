"""Engines: environments with torch and all else that a worker imports, but for gemmad itself.

gemmad's control plane is small and comes from a package; torch takes gigabytes and fits one kind of GPU. So it may live
in an environment of its own, which `gemmad engine` makes and which can be changed without touching the rest. A worker
runs in the current engine's Python, with the daemon's own gemmad (`launch`). Where there is no engine, it runs in the
daemon's Python, which then has torch.
"""
