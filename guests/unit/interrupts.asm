; External interrupts between instructions: shadows of STI and of loads of SS, HLT, POPF, IRET, repeated string
; instructions, priorities of the 8259: SDM volume 3, "Masking Exceptions and Interrupts …"; volume 2, "STI", "MOV".
%include "guest.inc"

TIMER       equ PIC_VECTOR

main:
    call initialize_pic

    group "STI"
    ; covers: interrupt shadows
    call raise_timer
    call arm_32
    dd TIMER, 0, .after_shadow, .settled1, __?LINE?__
    sti
    nop
.after_shadow:
    nop
    cli
.settled1:
    call settle_32
    mov eax, [event.flags]
    check_eq eax, FLAG_IF | 2
    call raise_timer
    expect_nothing call sti_cli         ; no time for an interrupt
    call arm_32
    dd TIMER, 0, .after_second, .settled2, __?LINE?__
    sti
    sti                                 ; casts no shadow: IF is set already
.after_second:
    nop
    cli
.settled2:
    call settle_32
    call raise_timer
    call arm_32
    dd TIMER, 0, .after_jump, .settled3, __?LINE?__
    sti
    jmp .after_jump
    nop
.after_jump:
    nop
    cli
.settled3:
    call settle_32
    call raise_timer
    call arm_32
    dd V_UD, 0, .shadowed_fault, .settled4, __?LINE?__
    sti
.shadowed_fault:
    ud2                                 ; an exception is not held back; it ends the shadow
.settled4:
    call settle_32
    call raise_timer
    call arm_32
    dd TIMER, 0, .after_hlt, .settled5, __?LINE?__
    sti
    hlt
.after_hlt:
    nop
    cli
.settled5:
    call settle_32

    group "POPF and IRET have no shadow"
    call raise_timer
    push dword FLAG_IF | 2
    call arm_32
    dd TIMER, 0, .after_popf, .settled6, __?LINE?__
    popfd
.after_popf:
    nop
    cli
.settled6:
    call settle_32
    mov esp, STACK_TOP
    call raise_timer
    push dword FLAG_IF | 2
    push dword CODE32
    push dword .after_iret
    call arm_32
    dd TIMER, 0, .after_iret, .settled7, __?LINE?__
    iretd
.after_iret:
    nop
    cli
.settled7:
    call settle_32
    mov esp, STACK_TOP
    ; a user program that an IRET enters
    call raise_timer
    mov dword [user.flags], FLAG_IF | 2
    user_expect TIMER, 0, nop
    check_eq [event.cs], USER_CODE32
    mov dword [user.flags], 2
    ; IF stays clear: nothing comes
    call raise_timer
    push dword FLAG_CF | 2
    expect_nothing popfd
    mov esp, STACK_TOP
    user_run nop

    group "loads of SS"
    call raise_timer
    mov eax, ss
    push eax
    push dword FLAG_IF | 2
    ; POPF enables, but the load of SS just before keeps everything away until POPF is through
    call arm_32
    dd TIMER, 0, .after_ss_popf, .settled8, __?LINE?__
    mov ss, eax
    popfd
.after_ss_popf:
    nop
    cli
.settled8:
    call settle_32
    mov esp, STACK_TOP
    mov al, 0x20
    out 0x20, al

    group "HLT"
    mov al, 0xfe
    out 0x21, al
    mov ecx, 2000
    call start_pit
    call arm_32
    dd TIMER, 0, .halted, .settled9, __?LINE?__
    sti
    hlt
.halted:
    nop
    cli
.settled9:
    call settle_32
    mov al, 0x20
    out 0x20, al
    ; with a handler that returns
    set_handler TIMER, count_timer
    mov dword [ticks], 0
    mov ebx, 3
.again:
    mov ecx, 500
    call start_pit
    sti
    hlt
    cli
    dec ebx
    jnz .again
    check_eq [ticks], 3

    group "periodic timer and repeated instructions"
    mov dword [ticks], 0
    mov al, 0x34                        ; rate generator
    out 0x43, al
    mov al, 0x54                        ; every 596 ticks: 0.5 ms
    out 0x40, al
    mov al, 2
    out 0x40, al
    sti
.long:
    mov edi, HIGH_SCRATCH
    mov ecx, 100000
    mov al, 0x5a
    rep stosb                           ; interrupted in the middle, and goes on
    cmp dword [ticks], 8
    jb .long
    cli
    check_eq ecx, 0
    check_eq edi, HIGH_SCRATCH + 100000
    mov edi, HIGH_SCRATCH
    mov ecx, 100000
    repe scasb
    check_eq ecx, 0
    check_true e
    ; seen from outside: the interrupt points at the instruction, the registers say how far it got
    mov al, 0x20
    out 0x20, al
    call restore_timer
    mov ebx, 0
.until_inside:
    mov edi, HIGH_SCRATCH
    mov ecx, 100000
    mov dword [armed.resume], .inside
    mov [armed.sp], esp
    sti
.string:
    rep stosb
    cli
    mov dword [armed.resume], 0
.outside:
    inc ebx
    cmp ebx, 1000
    jb .until_inside
    fail
.inside:
    cli
    mov dword [armed.resume], 0
    check_eq [event.vector], TIMER
    cmp dword [event.ip], .string       ; it may come just before or after the instruction
    mov al, 0x20
    je .acknowledged
    out 0x20, al
    jmp .outside
.acknowledged:
    check_eq [event.ip], .string
    mov eax, edi
    sub eax, HIGH_SCRATCH
    add eax, ecx
    check_eq eax, 100000
    cmp ecx, 100000
    check_true b
    mov al, 0x30                        ; stop the timer
    out 0x43, al

    group "8259: priorities, masks, end of interrupt"
    call initialize_pic
    mov al, 0x0b
    out 0x20, al
    in al, 0x20
    movzx eax, al
    check_eq eax, 0                     ; nothing in service
    call raise_timer
    mov al, 0xff
    out 0x21, al
    expect_nothing call enable_interrupts    ; masked
    mov al, 0xfe
    out 0x21, al
    expect_at TIMER, 0, enable_interrupts.window, call enable_interrupts
    mov al, 0x0b
    out 0x20, al
    in al, 0x20
    movzx eax, al
    check_eq eax, 1                     ; in service
    mov ecx, 20
    call start_pit
    mov al, 0x0a
    out 0x20, al
.wait_request:
    in al, 0x20
    test al, 1
    jz .wait_request
    expect_nothing call enable_interrupts    ; its own level is in service
    mov al, 0x20
    out 0x20, al
    expect_at TIMER, 0, enable_interrupts.window, call enable_interrupts
    mov al, 0x60                        ; specific end of interrupt, IRQ 0
    out 0x20, al
    mov al, 0x0b
    out 0x20, al
    in al, 0x20
    movzx eax, al
    check_eq eax, 0
    ; automatic end of interrupt
    mov al, 0x11
    out 0x20, al
    mov al, PIC_VECTOR + 0x10
    out 0x21, al
    mov al, 4
    out 0x21, al
    mov al, 3
    out 0x21, al
    call raise_timer
    expect_at PIC_VECTOR + 0x10, 0, enable_interrupts.window, call enable_interrupts
    mov al, 0x0b
    out 0x20, al
    in al, 0x20
    movzx eax, al
    check_eq eax, 0
    call initialize_pic
    finish

enable_interrupts:
    sti
    nop
.window:
    nop
    cli
    ret
sti_cli:
    sti
    cli
    ret

count_timer:
    push eax
    inc dword [ticks]
    mov al, 0x20
    out 0x20, al
    pop eax
    iretd
restore_timer:
    set_handler TIMER, stub_32
    ret
ticks:  dd 0
