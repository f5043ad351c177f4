; SVM: physical interrupts and NMIs while a guest runs, the global interrupt flag, virtual interrupts, the guest's task
; priority, interrupt shadows, INIT: AMD APM volume 2, "Interrupt and Local APIC Support", "Global Interrupt Flag".
;! cpu=epyc
%include "guest.inc"
%include "svm.inc"

ICR                 equ 0x300
ICR_HIGH            equ 0x310
SVR                 equ 0xf0
EOI                 equ 0xb0
LVT_TIMER           equ 0x320
TIMER_INIT          equ 0x380
TIMER_DIV           equ 0x3e0
SELF                equ 0x44000
NMI_MODE            equ 0x4400
INIT_MODE           equ 0x4500
V_IRQ               equ 1 << 8
V_GIF               equ 1 << 9
V_NMI_PENDING       equ 1 << 11
V_NMI_MASK          equ 1 << 12
V_NMI_ENABLE        equ 1 << 26
V_PRIORITY          equ 1 << 16
V_IGN_TPR           equ 1 << 20
V_MASKING           equ 1 << 24
V_GIF_ENABLE        equ 1 << 25

; Register, value. Changes R13.
%macro apic 2
    mov r13d, LOCAL_APIC
    mov dword [r13 + (%1)], %2
%endmacro
%macro send_self 1
    apic ICR, SELF | (%1)
%endmacro
%macro send_nmi 0
    apic ICR, NMI_MODE
%endmacro
%macro end_of_interrupt 0
    apic EOI, 0
%endmacro
; The host takes this interrupt in a window.
%macro host_takes 1.nolist
    expect_at %1, 0, window.open, call window
    end_of_interrupt
%endmacro
%macro host_takes_nothing 0.nolist
    expect_nothing call window
%endmacro
; A guest with handlers for the vectors 2, 0x40, 0x50.
%macro handling_guest 0
    own_table
    gate V_NMI, CODE64, 0x8e
    gate 0x40, CODE64, 0x8e
    gate 0x50, CODE64, 0x8e
%endmacro
%macro vintr 2                  ; control, vector
    mov dword [VINTR], %1
    mov dword [VINTR_VECTOR], %2
%endmacro

main:
    go_long
  use 64
    apic SVR, 0x1ff
    apic ICR_HIGH, 0
    call set_up_svm

    group "SVM interrupts: the global interrupt flag"
    stgi
    clgi
    send_self 0x40
    host_takes_nothing
    send_nmi
    nop
    nop
    expect_trap V_NMI, 0, stgi              ; the NMI goes first
    call unblock_nmi
    host_takes 0x40
    guest_exits EXIT_VMMCALL, nop           ; #VMEXIT clears it
    send_self 0x40
    host_takes_nothing
    stgi
    host_takes 0x40

    group "SVM interrupts: intercepted"
    handling_guest
    intercept I_INTR
    mov qword [SAVE_RFLAGS], FLAG_IF | 2
    clgi
    send_self 0x40
    run_guest_at never                      ; VMRUN sets GIF: the interrupt waits already
    check_eq qword [EXITCODE], EXIT(I_INTR)
    check_eq qword [SAVE_RIP], never
    check_d [EXITINTINFO], 0
    stgi                                    ; it was not taken
    host_takes 0x40
    clgi
    send_self 0x40
    mov qword [SAVE_RFLAGS], 2              ; the guest's IF decides
    executed nop
    jmp .over_sti
.sti:
    sti
    nop
.after_sti:
    nop
    vmmcall
.over_sti:
    run_guest_at .sti
    check_eq qword [EXITCODE], EXIT(I_INTR)
    check_eq qword [SAVE_RIP], .after_sti
    stgi
    host_takes 0x40

    group "SVM interrupts: not intercepted"
    handling_guest
    mov qword [SAVE_RFLAGS], FLAG_IF | 2
    clgi
    send_self 0x40
    run_guest_at never
    check_eq qword [EXITCODE], EXIT_VMMCALL
    check_eq qword [SAVE_RIP], guest_handler
    check_eq qword [GUEST_STACK_TOP - 40], never
    end_of_interrupt
    stgi

    group "SVM interrupts: with V_INTR_MASKING the host's IF decides"
    handling_guest
    intercept I_INTR
    vintr V_MASKING, 0
    clgi
    send_self 0x40
    mov qword [SAVE_RFLAGS], FLAG_IF | 2
    executed nop                            ; the host has IF = 0
    mov qword [SAVE_RFLAGS], 2
    sti
    nop
    run_guest_at never
    cli
    check_eq qword [EXITCODE], EXIT(I_INTR)
    stgi
    host_takes 0x40

    group "SVM interrupts: NMIs"
    handling_guest
    intercept I_NMI
    clgi
    send_nmi
    run_guest_at never
    check_eq qword [EXITCODE], EXIT(I_NMI)
    expect_trap V_NMI, 0, stgi
    call unblock_nmi
    handling_guest
    clgi
    send_nmi
    run_guest_at never
    check_eq qword [EXITCODE], EXIT_VMMCALL
    check_eq qword [SAVE_RIP], guest_handler
    call unblock_nmi                        ; the guest's handler has not ended
    stgi

    group "SVM interrupts: virtual ones"
    ; covers: staying instead of VINTR
    handling_guest
    vintr V_IRQ | V_PRIORITY, 0x50
    mov qword [SAVE_RFLAGS], FLAG_IF | 2
    run_guest_at never
    check_eq qword [EXITCODE], EXIT_VMMCALL
    check_eq qword [SAVE_RIP], guest_handler
    check_d [VINTR], V_PRIORITY             ; taken
    handling_guest                          ; IF of the guest
    vintr V_IRQ | V_PRIORITY, 0x50
    executed nop
    check_d [VINTR], V_IRQ | V_PRIORITY     ; still waiting
    handling_guest                          ; its task priority
    vintr V_IRQ | V_PRIORITY * 3 | 3, 0x50
    mov qword [SAVE_RFLAGS], FLAG_IF | 2
    executed nop
    vintr V_IRQ | V_PRIORITY * 3 | 2, 0x50
    run_guest_at never
    check_eq qword [SAVE_RIP], guest_handler
    handling_guest
    vintr V_IRQ | V_PRIORITY * 3 | V_IGN_TPR | 15, 0x50
    mov qword [SAVE_RFLAGS], FLAG_IF | 2
    run_guest_at never
    check_eq qword [SAVE_RIP], guest_handler
    handling_guest                          ; intercepted: a window
    intercept I_VINTR
    vintr V_IRQ | V_PRIORITY, 0x50
    mov qword [SAVE_RFLAGS], 2
    jmp .over_window
.waits:
    nop
    sti
    nop
.window:
    vmmcall
.over_window:
    run_guest_at .waits
    check_eq qword [EXITCODE], EXIT(I_VINTR)
    check_eq qword [SAVE_RIP], .window
    check_d [VINTR], V_IRQ | V_PRIORITY
    check_d [EXITINTINFO], 0

    group "SVM interrupts: the task priority"
    handling_guest
    vintr V_MASKING | 5, 0
    mov eax, 7
    mov cr8, rax
    jmp .over_priority
.priority:
    mov rbx, cr8
    mov eax, 9
    mov cr8, rax
    vmmcall
.over_priority:
    run_guest_at .priority
    check_eq rbx, 5
    check_d [VINTR], V_MASKING | 9
    mov rax, cr8
    check_eq rax, 7                         ; the host's is another
    handling_guest
    vintr 5, 0
    run_guest_at .priority
    check_eq rbx, 7
    check_d [VINTR], 9
    mov rax, cr8
    check_eq rax, 9
    xor eax, eax
    mov cr8, rax
    handling_guest                          ; lowering it lets the interrupt in
    vintr V_MASKING | V_IRQ | V_PRIORITY * 4 | 4, 0x50
    mov qword [SAVE_RFLAGS], FLAG_IF | 2
    jmp .over_lowering
.lowers:
    mov eax, 3
    mov cr8, rax
.lowered:
    hlt
.over_lowering:
    run_guest_at .lowers
    check_eq qword [SAVE_RIP], guest_handler
    check_eq qword [GUEST_STACK_TOP - 40], .lowered

    group "SVM interrupts: shadows"
    handling_guest
    vintr V_IRQ | V_PRIORITY, 0x50
    mov qword [SAVE_RFLAGS], FLAG_IF | 2
    mov dword [GUEST_SHADOW], 1
    jmp .over_shadow
.shadowed:
    nop
.unshadowed:
    hlt
.over_shadow:
    run_guest_at .shadowed
    check_eq qword [SAVE_RIP], guest_handler
    check_eq qword [GUEST_STACK_TOP - 40], .unshadowed
    check_d [GUEST_SHADOW], 0
    handling_guest
    intercept I_CPUID
    jmp .over_cast
.casts:
    sti
    cpuid
.over_cast:
    run_guest_at .casts
    check_eq qword [EXITCODE], EXIT(I_CPUID)
    check_d [GUEST_SHADOW], 1
    handling_guest
    intercept I_CPUID
    jmp .over_late
.late:
    sti
    nop
    cpuid
.over_late:
    run_guest_at .late
    check_eq qword [EXITCODE], EXIT(I_CPUID)
    check_d [GUEST_SHADOW], 0

    group "SVM interrupts: HLT"
    handling_guest
    intercept I_INTR
    vintr V_MASKING, 0
    apic TIMER_DIV, 0xb                         ; timer: divide by 1, one shot
    apic LVT_TIMER, 0x40
    apic TIMER_INIT, 20000
    jmp .over_halt
.halts:
    cli
    hlt
.woken:
    vmmcall
.over_halt:
    sti
    nop
    run_guest_at .halts
    cli
    check_eq qword [EXITCODE], EXIT(I_INTR)
    check_eq qword [SAVE_RIP], .woken
    stgi
    host_takes 0x40

    group "SVM interrupts: virtual NMIs"
    ; covers: SVM vnmi
%macro nmi_guest 1
    handling_guest
    intercept I_NMI
    vintr V_NMI_ENABLE | (%1), 0
%endmacro
    nmi_guest V_NMI_PENDING
    run_guest_at never
    check_eq qword [EXITCODE], EXIT_VMMCALL
    check_eq qword [SAVE_RIP], guest_handler
    check_eq qword [GUEST_STACK_TOP - 40], never
    check_d [VINTR], V_NMI_ENABLE | V_NMI_MASK
    nmi_guest V_NMI_PENDING | V_NMI_MASK
    executed nop
    check_d [VINTR], V_NMI_ENABLE | V_NMI_PENDING | V_NMI_MASK
    nmi_guest V_NMI_PENDING | V_NMI_MASK    ; IRET ends the handler: the next one comes
    push qword DATA32
    push qword GUEST_STACK_TOP
    push qword 2
    push qword CODE64
    push qword .returned
    mov rax, rsp
    mov [SAVE_RSP], rax
    jmp .over_return
.returns:
    iretq
.returned:
    hlt
.over_return:
    run_guest_at .returns
    add rsp, 40
    check_eq qword [SAVE_RIP], guest_handler
    check_eq qword [GUEST_STACK_TOP - 40], .returned
    check_d [VINTR], V_NMI_ENABLE | V_NMI_MASK
    nmi_guest V_NMI_PENDING | V_GIF_ENABLE  ; the guest's GIF holds it off
    executed nop
    nmi_guest 0                             ; an injected one masks, too
    mov dword [EVENTINJ], EVENT_VALID | EVENT_NMI
    run_guest_at never
    check_eq qword [SAVE_RIP], guest_handler
    check_d [VINTR], V_NMI_ENABLE | V_NMI_MASK

    group "SVM interrupts: the guest's own global interrupt flag"
    ; covers: SVM vgif
    handling_guest
    vintr V_GIF_ENABLE | V_IRQ | V_PRIORITY, 0x50
    mov qword [SAVE_RFLAGS], FLAG_IF | 2
    executed nop                            ; V_GIF is clear
    jmp .over_gif
.sets:
    stgi
.set:
    hlt
.over_gif:
    run_guest_at .sets
    check_eq qword [SAVE_RIP], guest_handler
    check_eq qword [GUEST_STACK_TOP - 40], .set
    check_d [VINTR], V_GIF_ENABLE | V_GIF | V_PRIORITY
    handling_guest
    vintr V_GIF_ENABLE | V_GIF, 0
    executed clgi
    check_d [VINTR], V_GIF_ENABLE
    handling_guest                          ; it holds off no physical interrupt
    intercept I_INTR
    vintr V_GIF_ENABLE, 0
    mov qword [SAVE_RFLAGS], FLAG_IF | 2
    clgi
    send_self 0x40
    run_guest_at never
    check_eq qword [EXITCODE], EXIT(I_INTR)
    stgi
    host_takes 0x40
    handling_guest                          ; without it a guest that is not intercepted changes the real one
    intercept I_INTR
    mov qword [SAVE_RFLAGS], FLAG_IF | 2
    jmp .over_real
.clears:
    clgi
    send_self 0x40
    nop
    nop
    stgi
.cleared:
    nop
    vmmcall
.over_real:
    run_guest_at .clears
    check_eq qword [EXITCODE], EXIT(I_INTR)
    check_eq qword [SAVE_RIP], .cleared
    stgi
    host_takes 0x40
    group "SVM interrupts: INIT"
    handling_guest
    intercept I_INIT
    clgi
    apic ICR, INIT_MODE
    run_guest_at never
    check_eq qword [EXITCODE], EXIT(I_INIT)
    check_eq qword [SAVE_RIP], never        ; it is still pending, and nobody sets GIF any more
    finish

never:
    nop
    hlt

; Interrupts are let in at `.open`.
window:
    sti
    nop
.open:
    cli
    ret

; NMIs are blocked until an IRET, which the library's handlers leave out.
unblock_nmi:
    mov rax, rsp
    push qword DATA32
    push rax
    push qword 2
    push qword CODE64
    push qword .unblocked
    iretq
.unblocked:
    ret
