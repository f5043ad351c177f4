; The library itself: reports, expected exceptions and level 3, in each mode.
%include "guest.inc"

main:
    group "protected mode"
    mov eax, 5
    check_eq eax, 5
    mov edx, DATA32
    expect V_UD, 0, ud2
    expect V_GP, DATA32, ltr dx
    expect_nothing nop
    expect_trap V_BP, 0, int3
    user_expect V_GP, 0, cli
    check_eq [event.cs], USER_CODE32
    check_eq [event.ds], USER_DATA
    user_run nop
    user_expect V_GP, 13 * 8 + 2, int 13
    group "real mode"
    go_real
    mov eax, 5
    check_eq eax, 5
    expect V_UD, 0, ud2
    expect_trap 0x21, 0, int 0x21
    expect_nothing nop
    go_protected
    expect V_UD, 0, ud2
    group "64-bit mode"
    go_long
    mov eax, 5
    check_eq rax, 5
    expect V_UD, 0, ud2
    expect_nothing nop
    expect_trap V_BP, 0, int3
    user_expect V_GP, 0, cli
    check_eq [event.cs], USER_CODE64
    user_run nop
    finish
