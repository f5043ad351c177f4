; ACPI soft-off: SLP_EN with the sleep type of S5 in PM1a_CNT (ACPI specification, "PM1 Control Registers").
;! end=poweroff
%include "guest.inc"

main:
    mov eax, 0x8000f840
    mov edx, 0xcf8
    out dx, eax
    mov edx, 0xcfc
    in eax, dx
    and eax, 0xff80
    group "PM1a_CNT"
    lea edx, [eax + 4]
    mov ax, 1 << 13
    out dx, ax
    mov ecx, 1000
.wait:
    loop .wait
    fail
    finish
