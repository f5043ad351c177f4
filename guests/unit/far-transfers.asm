; Far JMP, CALL and RET, IRET, call, interrupt and trap gates, conforming code and changes of privilege in 32-bit
; protected mode: SDM volume 3, "Privilege Level Checking When Transferring Program Control Between Code Segments" and
; "Exception and Interrupt Handling"; volume 2 for the order of the checks.
%include "guest.inc"

%assign next_selector GDT_FREE
%macro slot 1
  %1 equ next_selector
  %assign next_selector next_selector + 8
%endmacro
slot CODE_1
slot STACK_1
slot CODE_2
slot STACK_2
slot CONFORMING
slot CONFORMING_1
slot CONFORMING_3
slot CODE_ABSENT
slot CODE_SMALL
slot STACK_ABSENT
slot STACK_TINY
slot LOCAL
slot TRAP_IN_GDT
slot TASK_BUSY
slot CODE16_BASE0
slot GATE                   ; rewritten by the tests
slot GATE_LOW               ; of level 0
slot GATE_ABSENT
slot GATE16
slot GATE_RING1
slot GATE_NULL
slot GATE_DATA
slot GATE_OUTER
slot GATE_CODE_ABSENT
slot GATE_BEYOND
slot GATE_CONFORMING
slot GATE_PARAMETERS
slot CODE_RET

FREE_VECTOR equ 0x80

%macro at_level 1           ; what to_user enters
    mov dword [user.cs], %1
%endmacro
%macro user_default 0
    mov dword [user.cs], USER_CODE32
    mov dword [user.ss], USER_DATA
    mov dword [user.sp], USER_STACK_TOP
    mov dword [user.flags], 2
%endmacro
; what RET FAR finds: SS, ESP, CS, EIP; then vector and error code
%macro far_return_outer 6.nolist
    push dword %1
    push dword %2
    push dword %3
    push dword %4
    expect %5, %6, retf
    add esp, 16
%endmacro
%macro far_return 4.nolist      ; CS, EIP, vector, error code
    push dword %1
    push dword %2
    expect %3, %4, retf
    add esp, 8
%endmacro
%macro iret_expect 5.nolist     ; flags, CS, EIP, vector, error code
    push dword %1
    push dword %2
    push dword %3
    expect %4, %5, iretd
    add esp, 12
%endmacro
%macro gate_idt 4               ; vector, selector, offset, access byte
    set_gate idt + (%1) * 8, %2, %3, %4, 0
%endmacro

main:
    set_descriptor CODE_1, 0, 0xfffff, ACCESS_CODE + 0x20, FLAGS_PAGES32
    set_descriptor STACK_1, 0, 0xfffff, ACCESS_DATA + 0x20, FLAGS_PAGES32
    set_descriptor CODE_2, 0, 0xfffff, ACCESS_CODE + 0x40, FLAGS_PAGES32
    set_descriptor STACK_2, 0, 0xfffff, ACCESS_DATA + 0x40, FLAGS_PAGES32
    set_descriptor CONFORMING, 0, 0xfffff, ACCESS_CONFORMING, FLAGS_PAGES32
    set_descriptor CONFORMING_1, 0, 0xfffff, ACCESS_CONFORMING + 0x20, FLAGS_PAGES32
    set_descriptor CONFORMING_3, 0, 0xfffff, ACCESS_CONFORMING + DPL3, FLAGS_PAGES32
    set_descriptor CODE_ABSENT, 0, 0xfffff, ACCESS_CODE & ~0x80, FLAGS_PAGES32
    set_descriptor CODE_SMALL, SCRATCH, 0xff, ACCESS_CODE, FLAGS_BYTES32
    set_descriptor STACK_ABSENT, 0, 0xfffff, ACCESS_DATA & ~0x80, FLAGS_PAGES32
    set_descriptor STACK_TINY, SCRATCH, 0xf, ACCESS_DATA, FLAGS_BYTES32
    set_descriptor LOCAL, SCRATCH, 0xff, ACCESS_LDT, FLAGS_BYTES16
    set_descriptor TASK_BUSY, SCRATCH, 0x67, ACCESS_TSS32 | 2, FLAGS_BYTES16
    set_gate gdt + TRAP_IN_GDT, CODE32, 0, ACCESS_TRAP32, 0
    set_gate gdt + GATE_LOW, CODE32, gate_target, ACCESS_CALL32, 0
    set_gate gdt + GATE_ABSENT, CODE32, gate_target, (ACCESS_CALL32 + DPL3) & ~0x80, 0
    set_gate gdt + GATE16, CODE16, gate_target16 - LOAD_ADDRESS, ACCESS_CALL16 + DPL3, 2
    set_gate gdt + GATE_RING1, CODE_1 + 1, gate_target, ACCESS_CALL32 + DPL3, 0
    set_gate gdt + GATE_NULL, 0, gate_target, ACCESS_CALL32 + DPL3, 0
    set_gate gdt + GATE_DATA, DATA32, gate_target, ACCESS_CALL32 + DPL3, 0
    set_gate gdt + GATE_OUTER, USER_CODE32, gate_target, ACCESS_CALL32 + DPL3, 0
    set_gate gdt + GATE_CODE_ABSENT, CODE_ABSENT, gate_target, ACCESS_CALL32 + DPL3, 0
    set_gate gdt + GATE_BEYOND, CODE_SMALL, 0x100, ACCESS_CALL32 + DPL3, 0
    set_gate gdt + GATE_CONFORMING, CONFORMING, gate_target, ACCESS_CALL32 + DPL3, 0
    set_gate gdt + GATE_PARAMETERS, CODE32 + 3, gate_target, ACCESS_CALL32 + DPL3, 3
    set_gate gdt + GATE, CODE32, gate_target, ACCESS_CALL32 + DPL3, 0
    mov dword [task_state.ss1], STACK_1 + 1
    mov dword [task_state.ss2], STACK_2 + 2
    xor eax, eax
    lldt ax

    group "far JMP and CALL to code"
    expect V_GP, 0, jmp 0:gate_target
    expect V_GP, 0, jmp 3:gate_target
    expect V_GP, GDT_END, jmp GDT_END:gate_target
    expect V_GP, DATA32, jmp DATA32:gate_target
    expect V_GP, USER_CODE32 & ~3, jmp USER_CODE32:gate_target
    expect V_GP, CODE32, jmp CODE32 + 1:gate_target
    expect V_NP, CODE_ABSENT, jmp CODE_ABSENT:gate_target
    expect V_GP, CONFORMING_1, jmp CONFORMING_1:gate_target
    expect V_GP, LOCAL, jmp LOCAL:gate_target
    expect V_GP, TRAP_IN_GDT, jmp TRAP_IN_GDT:gate_target
    expect V_GP, TASK_BUSY, jmp TASK_BUSY:gate_target
    expect V_GP, 0xc, jmp 0xc:gate_target
    expect V_GP, 0, jmp CODE_SMALL:0x100
    expect V_GP, 0, call CODE_SMALL:0x100
    expect V_GP, DATA32, call DATA32:gate_target
    expect_at USER_DONE, 0, gate_target.end, jmp CONFORMING + 3:gate_target
    check_eq [event.cs], CONFORMING             ; the RPL becomes the CPL
    expect_at USER_DONE, 0, gate_target.end, jmp CODE32:gate_target
    mov esi, esp
    expect_at USER_DONE, 0, gate_target.end, call CODE32:gate_target
    sub esi, 8
    check_eq [event.sp], esi
    check_eq [esi + 4], CODE32
    mov dword [SCRATCH], gate_target
    mov word [SCRATCH + 4], CODE32
    expect_at USER_DONE, 0, gate_target.end, jmp far [SCRATCH]
    expect_at USER_DONE, 0, gate_target.end, call far [SCRATCH]
    expect V_UD, 0, db 0xff, 0xe8               ; JMP FAR of a register
    expect V_UD, 0, db 0xff, 0xd8
    user_expect V_GP, CODE32, jmp CODE32:gate_target
    user_expect V_GP, CODE32, jmp CODE32 + 3:gate_target
    user_expect V_GP, CODE_1, call CODE_1:gate_target
    user_expect_at USER_DONE, 0, gate_target.end, jmp CONFORMING:gate_target
    check_eq [event.cs], CONFORMING + 3
    user_expect_at USER_DONE, 0, gate_target.end, jmp CONFORMING_1 + 3:gate_target
    check_eq [event.cs], CONFORMING_1 + 3
    user_expect_at USER_DONE, 0, gate_target.end, jmp USER_CODE32 & ~3:gate_target
    check_eq [event.cs], USER_CODE32

    group "call gates at the same level"
    expect_at USER_DONE, 0, gate_target.end, jmp GATE:0x12345678
    check_eq [event.cs], CODE32
    mov esi, esp
    expect_at USER_DONE, 0, gate_target.end, call GATE:0
    sub esi, 8
    check_eq [event.sp], esi
    check_eq [esi + 4], CODE32
    expect V_GP, GATE_LOW, call GATE_LOW + 1:0          ; the gate's DPL is below the RPL
    expect_at USER_DONE, 0, gate_target.end, call GATE_LOW:0
    expect V_NP, GATE_ABSENT, call GATE_ABSENT:0
    expect V_GP, 0, call GATE_NULL:0
    expect V_GP, DATA32, call GATE_DATA:0
    expect V_GP, USER_CODE32 & ~3, call GATE_OUTER:0
    expect V_NP, CODE_ABSENT, call GATE_CODE_ABSENT:0
    expect V_GP, 0, call GATE_BEYOND:0
    expect V_GP, 0, jmp GATE_NULL:0
    expect_at USER_DONE, 0, gate_target.end, call GATE_CONFORMING:0
    expect_at USER_DONE, 0, gate_target.end, call GATE_PARAMETERS:0     ; no parameters are copied
    check_eq [event.cs], CODE32

    group "call gates to an inner level"
    user_expect V_GP, GATE_LOW, call GATE_LOW:0
    user_expect V_GP, CODE32, jmp GATE:0                ; JMP cannot change the level
    user_expect V_NP, GATE_ABSENT, call GATE_ABSENT + 3:0
    user_expect V_GP, 0, call GATE_NULL:0
    user_expect V_GP, DATA32, call GATE_DATA:0
    user_expect V_NP, CODE_ABSENT, call GATE_CODE_ABSENT:0
    user_expect V_GP, 0, call GATE_BEYOND:0
    user_expect_at USER_DONE, 0, gate_target.end, call GATE_CONFORMING + 3:0
    check_eq [event.cs], CONFORMING + 3
    user_expect_at USER_DONE, 0, gate_target.end, jmp GATE_CONFORMING + 3:0
    check_eq [event.cs], CONFORMING + 3
    mov dword [USER_STACK_TOP - 12], 0x33333333
    mov dword [USER_STACK_TOP - 8], 0x22222222
    mov dword [USER_STACK_TOP - 4], 0x11111111
    mov dword [user.sp], USER_STACK_TOP - 12
    user_expect_at USER_DONE, 0, gate_target.end, call GATE_PARAMETERS:0
    check_eq [event.cs], CODE32
    check_eq [event.ss], DATA32
    mov esi, [event.sp]
    check_eq esi, ENTRY_STACK_TOP - 7 * 4
    check_eq [esi + 4], USER_CODE32
    check_eq [esi + 8], 0x33333333
    check_eq [esi + 12], 0x22222222
    check_eq [esi + 16], 0x11111111
    check_eq [esi + 20], USER_STACK_TOP - 12
    check_eq [esi + 24], USER_DATA
    mov dword [user.sp], USER_STACK_TOP - 8
    mov dword [USER_STACK_TOP - 8], 0x22221111
    user_expect_at USER_DONE, 0, at16(gate_target16.end), call GATE16:0
    check_eq [event.cs], CODE16
    mov esi, [event.sp]
    check_eq esi, ENTRY_STACK_TOP - 6 * 2
    check_eq [esi + 4], 0x22221111
    movzx eax, word [esi + 2]
    check_eq eax, USER_CODE32
    movzx eax, word [esi + 8]
    check_eq eax, USER_STACK_TOP - 8
    user_default
    user_expect_at USER_DONE, 0, gate_target.end, call GATE_RING1:0
    check_eq [event.cs], CODE_1 + 1
    check_eq [event.ss], STACK_1 + 1
    check_eq [event.sp], INNER_STACK_TOP - 16
    mov dword [user.cs], CODE_1 + 1
    mov dword [user.ss], STACK_1 + 1
    user_expect_at USER_DONE, 0, gate_target.end, call GATE:0
    check_eq [event.cs], CODE32
    mov esi, [event.sp]
    check_eq [esi + 4], CODE_1 + 1
    check_eq [esi + 12], STACK_1 + 1
    user_expect_at USER_DONE, 0, gate_target.end, call GATE_RING1:0
    check_eq [event.cs], CODE_1 + 1
    check_eq [event.sp], USER_STACK_TOP - 8
    user_default

    group "inner stacks that cannot be used"
    mov dword [task_state.ss1], 0
    user_expect V_TS, 0, call GATE_RING1:0
    mov dword [task_state.ss1], GDT_END + 1
    user_expect V_TS, GDT_END, call GATE_RING1:0
    mov dword [task_state.ss1], STACK_1
    user_expect V_TS, STACK_1, call GATE_RING1:0        ; RPL
    mov dword [task_state.ss1], STACK_2 + 1
    user_expect V_TS, STACK_2, call GATE_RING1:0        ; DPL
    mov dword [task_state.ss1], CODE_1 + 1
    user_expect V_TS, CODE_1, call GATE_RING1:0
    set_descriptor STACK_1, 0, 0xfffff, (ACCESS_DATA + 0x20) & ~0x80, FLAGS_PAGES32
    mov dword [task_state.ss1], STACK_1 + 1
    user_expect V_SS, STACK_1, call GATE_RING1:0
    set_descriptor STACK_1, SCRATCH, 0xf, ACCESS_DATA + 0x20, FLAGS_BYTES32
    mov dword [task_state.sp1], 0xc
    user_expect V_SS, STACK_1, call GATE_RING1:0        ; no room for the frame
    mov dword [task_state.sp1], 0x10
    user_expect_at USER_DONE, 0, gate_target.end, call GATE_RING1:0
    check_eq [event.sp], 0
    set_descriptor STACK_1, 0, 0xfffff, ACCESS_DATA + 0x20, FLAGS_PAGES32
    mov dword [task_state.sp1], INNER_STACK_TOP

    group "far RET"
    push dword 0x77
    push dword CODE32
    push dword .returned
    retf 4
    fail
.returned:
    mov eax, esp
    check_eq eax, STACK_TOP
    far_return 0, gate_target, V_GP, 0
    far_return GDT_END, gate_target, V_GP, GDT_END
    far_return DATA32, gate_target, V_GP, DATA32
    far_return CODE_1, gate_target, V_GP, CODE_1        ; DPL is not the RPL
    far_return CODE_ABSENT, gate_target, V_NP, CODE_ABSENT
    far_return CODE_SMALL, 0x100, V_GP, 0
    far_return GATE, gate_target, V_GP, GATE
    far_return_outer USER_DATA, USER_STACK_TOP, USER_CODE32 & ~3, gate_target, V_GP, USER_CODE32 & ~3
    far_return_outer 0, USER_STACK_TOP, USER_CODE32, gate_target, V_GP, 0
    far_return_outer USER_DATA & ~3, USER_STACK_TOP, USER_CODE32, gate_target, V_GP, USER_DATA & ~3
    far_return_outer DATA32 + 3, USER_STACK_TOP, USER_CODE32, gate_target, V_GP, DATA32
    far_return_outer GDT_END, USER_STACK_TOP, USER_CODE32, gate_target, V_GP, GDT_END
    push dword USER_DATA
    push dword USER_STACK_TOP
    push dword 1
    push dword 2
    push dword USER_CODE32
    push dword gate_target
    expect_at USER_DONE, 0, gate_target.end, retf 8
    add esp, 24
    check_eq [event.cs], USER_CODE32
    check_eq [event.ss], USER_DATA
    check_eq [event.sp], USER_STACK_TOP + 8             ; parameters are released on both stacks
    check_eq [event.ds], 0                              ; level 0's data is out of reach
    check_eq [event.es], 0
    push dword USER_DATA
    push dword USER_STACK_TOP
    push dword CONFORMING + 3
    push dword gate_target
    expect_at USER_DONE, 0, gate_target.end, retf
    add esp, 16
    check_eq [event.cs], CONFORMING + 3
    mov dword [user.sp], USER_STACK_TOP - 8
    mov dword [USER_STACK_TOP - 8], gate_target
    mov dword [USER_STACK_TOP - 4], CODE32              ; inwards: never
    user_expect V_GP, CODE32, retf
    mov dword [USER_STACK_TOP - 4], CONFORMING
    user_expect V_GP, CONFORMING, retf
    mov dword [USER_STACK_TOP - 4], CONFORMING + 3
    user_expect_at USER_DONE, 0, gate_target.end, retf
    check_eq [event.cs], CONFORMING + 3
    user_default
    ; through a gate and back: the caller's stack loses the parameters
    mov dword [user.sp], USER_STACK_TOP - 12
    set_gate gdt + GATE_PARAMETERS, CODE32, gate_returns, ACCESS_CALL32 + DPL3, 3
    user_run call GATE_PARAMETERS:0
    check_eq [event.sp], USER_STACK_TOP
    user_default

    group "IRET"
    iret_expect 2, 0, gate_target, V_GP, 0
    iret_expect 2, GDT_END, gate_target, V_GP, GDT_END
    iret_expect 2, DATA32, gate_target, V_GP, DATA32
    iret_expect 2, CODE_ABSENT, gate_target, V_NP, CODE_ABSENT
    iret_expect 2, CODE_SMALL, 0x100, V_GP, 0
    iret_expect 2, CODE_1, gate_target, V_GP, CODE_1
    push dword FLAG_CF | FLAG_ID | FLAG_RF
    push dword CODE32
    push dword .flags
    iretd
.flags:
    pushfd
    pop eax
    push dword 2
    popfd
    check_eq eax, FLAG_CF | FLAG_ID | 2
    push dword FLAG_ID
    popfd
    push word FLAG_ZF
    push word CODE16
    push word at16(.flags16)
    o16 iret
  use 16
.flags16:
    jmp dword CODE32:.flags32
  use 32
.flags32:
    pushfd
    pop eax
    push dword 2
    popfd
    check_eq eax, FLAG_ID | FLAG_ZF | 2                 ; the upper half stays
    push dword STACK_ABSENT + 3
    push dword 0
    iret_expect 2, USER_CODE32, gate_target, V_GP, STACK_ABSENT
    add esp, 8
    set_descriptor STACK_ABSENT, 0, 0xfffff, (ACCESS_DATA + DPL3) & ~0x80, FLAGS_PAGES32
    push dword STACK_ABSENT + 3
    push dword 0
    iret_expect 2, USER_CODE32, gate_target, V_SS, STACK_ABSENT
    add esp, 8
    ; flags that level 3 cannot change by IRET
    mov dword [user.sp], USER_STACK_TOP - 12
    mov dword [USER_STACK_TOP - 12], gate_target
    mov dword [USER_STACK_TOP - 8], USER_CODE32
    mov dword [USER_STACK_TOP - 4], FLAG_IF | FLAG_IOPL | FLAG_VM | FLAG_VIF | FLAG_VIP | FLAG_CF | FLAG_AC
    user_expect_at USER_DONE, 0, gate_target.end, iretd
    check_eq [event.flags], FLAG_CF | FLAG_AC | 2
    check_eq [event.cs], USER_CODE32
    mov dword [user.flags], FLAG_IOPL | 2               ; with IOPL 3 it changes IF, not IOPL
    mov dword [USER_STACK_TOP - 4], FLAG_IF
    user_expect_at USER_DONE, 0, gate_target.end, iretd
    check_eq [event.flags], FLAG_IF | FLAG_IOPL | 2
    user_default
    ; a return to an outer level with the conforming segment's selector
    push dword USER_DATA
    push dword USER_STACK_TOP
    push dword 2
    push dword CONFORMING + 3
    push dword gate_target
    expect_at USER_DONE, 0, gate_target.end, iretd
    add esp, 20
    check_eq [event.cs], CONFORMING + 3
    check_eq [event.ss], USER_DATA

    group "gates of the IDT"
    expect_trap FREE_VECTOR, 0, int FREE_VECTOR
    gate_idt FREE_VECTOR, CODE32, gate_target, ACCESS_INT32
    user_expect V_GP, FREE_VECTOR * 8 + 2, int FREE_VECTOR
    gate_idt FREE_VECTOR, CODE32, gate_target, (ACCESS_INT32 + DPL3) & ~0x80
    user_expect V_NP, FREE_VECTOR * 8 + 2, int FREE_VECTOR
    expect V_NP, FREE_VECTOR * 8 + 2, int FREE_VECTOR
    gate_idt FREE_VECTOR, CODE32, gate_target, ACCESS_CALL32 + DPL3
    user_expect V_GP, FREE_VECTOR * 8 + 2, int FREE_VECTOR
    gate_idt FREE_VECTOR, CODE32, gate_target, ACCESS_DATA + DPL3
    expect V_GP, FREE_VECTOR * 8 + 2, int FREE_VECTOR
    gate_idt FREE_VECTOR, 0, gate_target, ACCESS_INT32 + DPL3
    expect V_GP, 0, int FREE_VECTOR
    gate_idt FREE_VECTOR, GDT_END, gate_target, ACCESS_INT32 + DPL3
    expect V_GP, GDT_END, int FREE_VECTOR
    gate_idt FREE_VECTOR, DATA32, gate_target, ACCESS_INT32 + DPL3
    expect V_GP, DATA32, int FREE_VECTOR
    gate_idt FREE_VECTOR, USER_CODE32, gate_target, ACCESS_INT32 + DPL3
    expect V_GP, USER_CODE32 & ~3, int FREE_VECTOR      ; a handler of an outer level
    gate_idt FREE_VECTOR, CODE_ABSENT, gate_target, ACCESS_INT32 + DPL3
    expect V_NP, CODE_ABSENT, int FREE_VECTOR
    gate_idt FREE_VECTOR, CODE_SMALL, 0x100, ACCESS_INT32 + DPL3
    expect V_GP, 0, int FREE_VECTOR
    sidt [SCRATCH]
    mov word [SCRATCH], FREE_VECTOR * 8 + 6
    lidt [SCRATCH]
    expect V_GP, FREE_VECTOR * 8 + 2, int FREE_VECTOR
    lidt [idt_pointer]
    ; exceptions on the way of an exception are external to the program
    gate_idt V_UD, CODE32, gate_target, ACCESS_INT32 & ~0x80
    expect V_NP, V_UD * 8 + 3, ud2
    gate_idt V_UD, DATA32, gate_target, ACCESS_INT32
    expect V_GP, DATA32 + 1, ud2
    gate_idt V_UD, 0, gate_target, ACCESS_INT32
    expect V_GP, 1, ud2
    gate_idt V_BP, CODE32, gate_target, ACCESS_INT32
    user_expect V_GP, V_BP * 8 + 2, int3
    user_expect V_GP, V_BP * 8 + 2, int 3
    gate_idt V_UD, CODE32, gate_target, ACCESS_INT32    ; its DPL does not count for exceptions
    user_expect_at USER_DONE, 0, gate_target.end, ud2
    check_eq [event.cs], CODE32
    check_eq [event.sp], ENTRY_STACK_TOP - 20
    mov esi, [event.sp]
    check_eq [esi + 4], USER_CODE32
    check_eq [esi + 8], FLAG_RF | 2
    check_eq [esi + 12], USER_STACK_TOP
    check_eq [esi + 16], USER_DATA
    gate_idt FREE_VECTOR, CODE32, gate_target, ACCESS_INT32 + DPL3
    mov dword [user.flags], FLAG_IF | FLAG_CF | FLAG_NT | FLAG_AC | 2
    user_expect_at USER_DONE, 0, gate_target.end, int FREE_VECTOR
    check_eq [event.flags], FLAG_CF | FLAG_AC | 2       ; IF and NT are cleared
    mov esi, [event.sp]
    check_eq [esi + 8], FLAG_IF | FLAG_CF | FLAG_NT | FLAG_AC | 2
    gate_idt FREE_VECTOR, CODE32, gate_target, ACCESS_TRAP32 + DPL3
    user_expect_at USER_DONE, 0, gate_target.end, int FREE_VECTOR
    check_eq [event.flags], FLAG_IF | FLAG_CF | FLAG_AC | 2
    user_default
    gate_idt FREE_VECTOR, CODE_1, gate_target, ACCESS_INT32 + DPL3
    user_expect_at USER_DONE, 0, gate_target.end, int FREE_VECTOR
    check_eq [event.cs], CODE_1 + 1
    check_eq [event.ss], STACK_1 + 1
    check_eq [event.sp], INNER_STACK_TOP - 20
    gate_idt FREE_VECTOR, CONFORMING, gate_target, ACCESS_INT32 + DPL3
    user_expect_at USER_DONE, 0, gate_target.end, int FREE_VECTOR
    check_eq [event.cs], CONFORMING + 3
    check_eq [event.ss], USER_DATA
    check_eq [event.sp], USER_STACK_TOP - 12
    gate_idt FREE_VECTOR, CODE16, at16(gate_target16), 0x86 + DPL3
    user_expect_at USER_DONE, 0, at16(gate_target16.end), int FREE_VECTOR
    mov esi, [event.sp]
    check_eq esi, ENTRY_STACK_TOP - 10
    movzx eax, word [esi + 2]
    check_eq eax, USER_CODE32
    movzx eax, word [esi + 6]
    check_eq eax, USER_STACK_TOP
    movzx eax, word [esi + 8]
    check_eq eax, USER_DATA
    finish

gate_target:
    int USER_DONE
.end:
    jmp gate_target
gate_returns:
    retf 12
use 16
gate_target16:
    int USER_DONE
.end:
use 32
