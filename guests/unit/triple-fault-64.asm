; In 64-bit mode: a stack and an IST that are not mapped.
;! end=triple-fault
%include "guest.inc"

main:
    go_long
    group "no stack for the double fault"
    mov rsp, 0x123456789000
    push rax
    fail
    finish
