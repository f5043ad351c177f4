; VMX as firmware leaves it on: SDM volume 3, "Enabling and Entering VMX Operation".
;! cpu=xeon
%include "guest.inc"
%include "vmx.inc"
%include "vmx-firmware.inc"

main:
    go_long
  use 64
    group "VMX: switched on and locked"
    ; covers: virtualization=on
    firmware_has_switched_vmx_on
    finish
