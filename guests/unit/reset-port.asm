; Port 0xCF9, SYS_RST and RST_CPU: the platform is reset (ICH9 datasheet, "Reset Control Register").
;! end=reset
%include "guest.inc"

main:
    group "reset control register"
    mov edx, 0xcf9
    mov al, 2
    out dx, al
    in al, dx
    and al, 2
    movzx eax, al
    check_eq eax, 2
    mov al, 6
    out dx, al
    mov ecx, 1000
.wait:
    loop .wait
    fail
    finish
