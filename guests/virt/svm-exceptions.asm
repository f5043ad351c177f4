; SVM: intercepts of exceptions, what happens on the way to a handler, shutdown: AMD APM volume 2, "Exception Intercepts"
; and "EXITINTINFO".
;! cpu=epyc
%include "guest.inc"
%include "svm.inc"


; Vector, EXITINFO1, guest: intercepted at its first instruction, and nothing was delivered.
%macro exception 3+.nolist
    mov dword [EXCEPTIONS], 1 << (%1)
    jmp %%over
%%at:
    %3
    vmmcall
%%over:
    run_guest_at %%at
    check_eq qword [EXITCODE], EXIT_EXCEPTION + (%1)
    check_eq qword [SAVE_RIP], %%at
    check_eq qword [EXITINFO1], %2
    check_d [EXITINTINFO], 0
    check_eq qword [SAVE_RSP], GUEST_STACK_TOP
%endmacro
main:
    go_long
  use 64
    mov rax, cr4
    or eax, CR4_OSFXSR | CR4_OSXMMEXCPT
    mov cr4, rax
    mov rax, cr0
    or eax, CR0_NE | CR0_AM | CR0_MP
    mov cr0, rax
    call set_up_svm

    group "SVM exceptions: each"
    xor ecx, ecx
    mov ebx, 0xfff8
    mov rsi, 0x123456789000     ; not mapped
    mov rdi, 0x8000000000000000 ; not canonical
    exception V_DE, 0, div ecx
    exception V_UD, 0, ud2
    exception V_GP, 0, mov eax, [rdi]
    exception V_GP, 0xfff8, mov ds, ebx
    mov rbp, rdi
    exception V_SS, 0, mov eax, [rbp]
    set_descriptor GDT_FREE, 0, 0xfffff, ACCESS_DATA & ~0x80, FLAGS_PAGES32
    mov ebx, GDT_FREE
    exception V_NP, GDT_FREE, mov ds, ebx
    exception V_SS, GDT_FREE, mov ss, ebx
    exception V_PF, 0, mov eax, [rsi + 8]
    check_q qword [EXITINFO2], 0x123456789008
    check_eq qword [SAVE_CR2], 0        ; CR2 is written by the delivery only
    exception V_PF, 2, mov [rsi + 16], eax
    check_q qword [EXITINFO2], 0x123456789010
    mov dword [FETCHED], 0
    jmp .over_fetch
.fetches:
    jmp rsi
.over_fetch:
    run_guest_at .fetches
    check_eq qword [EXITCODE], EXIT_EXCEPTION + V_PF
    check_eq qword [EXITINFO1], PF_I
    check_q qword [SAVE_RIP], 0x123456789000
    check_q qword [EXITINFO2], 0x123456789000
    movzx eax, byte [FETCHED]
    check_eq rax, 0                     ; a fetch gives no bytes
    exception V_PF, 0, db 0x8b, 0x86, 0x44, 0x33, 0x22, 0x11
    movzx eax, byte [FETCHED]
    check_eq rax, 15
    check_d [FETCHED_BYTES], 0x3344868b
    check_w [FETCHED_BYTES + 4], 0x1122
    or qword [SAVE_CR0], CR0_TS
    exception V_NM, 0, fnop
    fresh_guest
    fninit
    fldcw [.unmasked_control]
    fld1
    fldz
    fdivp
    exception V_MF, 0, fwait
    fninit
    ldmxcsr [.unmasked]
    pxor xmm0, xmm0
    exception V_XM, 0, divss xmm0, xmm0
    ldmxcsr [.masked]
    mov byte [SAVE_CPL], 3
    or word [SAVE_SS + 2], 0x60
    or word [SAVE_CS + 2], 0x60
    mov qword [SAVE_RFLAGS], FLAG_AC | 2
    exception V_AC, 0, mov eax, [SVM_FREE + 1]
    fresh_guest
    jmp .after_data
.unmasked:
    dd 0
.masked:
    dd 0x1f80
.unmasked_control:
    dw 0x340
.after_data:

    group "SVM exceptions: traps"
    mov dword [EXCEPTIONS], 1 << V_BP
    jmp .over_int3
.int3:
    int3
.after_int3:
    vmmcall
.over_int3:
    run_guest_at .int3
    check_eq qword [EXITCODE], EXIT_EXCEPTION + V_BP
    check_eq qword [SAVE_RIP], .int3
    check_eq qword [NRIP], .after_int3
    mov dword [EXCEPTIONS], 1 << V_DB
    mov qword [SAVE_RFLAGS], FLAG_TF | 2
    jmp .over_step
.step:
    nop
.after_step:
    vmmcall
.over_step:
    run_guest_at .step
    check_eq qword [EXITCODE], EXIT_EXCEPTION + V_DB
    check_eq qword [SAVE_RIP], .after_step
    mov r14d, 0xffff4ff0
    check_eq qword [SAVE_DR6], r14      ; the condition is there already
    fresh_guest
    mov dword [EXCEPTIONS], 1 << V_DB
    mov eax, .breakpoint
    mov dr0, rax
    mov qword [SAVE_DR7], 0x402
    jmp .over_breakpoint
.breakpoint:
    nop
    vmmcall
.over_breakpoint:
    run_guest_at .breakpoint
    check_eq qword [EXITCODE], EXIT_EXCEPTION + V_DB
    check_eq qword [SAVE_RIP], .breakpoint
    mov r14d, 0xffff0ff1
    check_eq qword [SAVE_DR6], r14
    fresh_guest

    group "SVM exceptions: without intercept the guest handles them"
    own_table
    gate V_UD, CODE64, 0x8e
    guest_exits EXIT_VMMCALL, ud2
    check_eq qword [SAVE_RIP], guest_handler
    check_eq qword [SAVE_RSP], GUEST_STACK_TOP - 40
    own_table
    gate V_PF, CODE64, 0x8e
    guest_exits EXIT_VMMCALL, mov [rsi], eax
    check_eq qword [SAVE_RIP], guest_handler
    check_q qword [SAVE_CR2], 0x123456789000
    check_eq qword [GUEST_STACK_TOP - 48], PF_W

    group "SVM exceptions: on the way to a handler"
    own_table                           ; #UD meets an absent gate
    mov word [GUEST_IDT + V_UD * 16 + 2], CODE64
    mov word [GUEST_IDT + V_UD * 16 + 4], 0x0e00
    mov dword [EXCEPTIONS], 1 << V_NP
    guest_exits EXIT_EXCEPTION + V_NP, ud2
    check_eq qword [EXITINFO1], V_UD * 8 + 3
    check_d [EXITINTINFO], EVENT_VALID | EVENT_EXCEPTION | V_UD
    own_table                           ; a software interrupt meets none
    mov dword [EXCEPTIONS], 1 << V_GP
    guest_exits EXIT_EXCEPTION + V_GP, int 0x60
    check_eq qword [EXITINFO1], 0x60 * 8 + 2
    check_d [EXITINTINFO], EVENT_VALID | EVENT_SOFTWARE | 0x60
    own_table                           ; the table itself is not there
    mov rdi, 0x8000000000000000
    mov dword [EXCEPTIONS], 1 << V_PF
    mov [SAVE_IDTR + 8], rsi
    guest_exits EXIT_EXCEPTION + V_PF, mov eax, [rdi + 1]
    check_d [EXITINTINFO], EVENT_VALID | EVENT_EXCEPTION | EVENT_ERROR | V_GP
    check_d [EXITINTINFO_ERROR], 0
    mov rax, 0x123456789000 + V_GP * 16
    check_eq qword [EXITINFO2], rax
    own_table                           ; the second fault makes a double fault, unless it is intercepted
    mov rdi, 0x8000000000000000
    gate V_DF, CODE64, 0x8e
    guest_exits EXIT_VMMCALL, mov eax, [rdi]
    check_eq qword [SAVE_RIP], guest_handler
    mov dword [EXCEPTIONS], 1 << V_DF
    guest_exits EXIT_EXCEPTION + V_DF, mov eax, [rdi]
    check_eq qword [EXITINFO1], 0
    check_d [EXITINTINFO], 0            ; it is not part of a delivery
    mov dword [EXCEPTIONS], 1 << V_GP
    guest_exits EXIT_EXCEPTION + V_GP, ud2
    check_d [EXITINTINFO], EVENT_VALID | EVENT_EXCEPTION | V_UD

    group "SVM exceptions: shutdown"
    own_table
    guest_exits EXIT(I_SHUTDOWN), ud2
    own_table
    mov dword [EXCEPTIONS], 1 << V_UD   ; the first of three is intercepted
    guest_exits EXIT_EXCEPTION + V_UD, ud2
    finish

