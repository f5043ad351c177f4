; VIA's processor with VT-x that firmware has left to the operating system.
;! cpu=via-vt,virtualization=unlocked
%include "guest.inc"
%include "vmx.inc"
%include "vmx-firmware.inc"

main:
    go_long
  use 64
    group "VIA: unlocked"
    ; covers: virtualization=unlocked
    firmware_has_locked_nothing
    finish
