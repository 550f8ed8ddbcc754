#!/bin/sh
# Runs as root inside an emulated machine (`cargo xtask test --kernels`), with busybox, /bin/sidecar and a real `ip`.
# Ends with 0 when this kernel can do what it must.
set -eu

echo "kernel $(uname -r)"
/bin/sidecar version
/bin/sidecar check
