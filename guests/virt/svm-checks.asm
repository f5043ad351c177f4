; SVM: every consistency check of VMRUN, with what just passes it: AMD APM volume 2, "Canonicalization and Consistency
; Checks".
;! cpu=epyc
%include "guest.inc"
%include "svm.inc"

; The control block as it is now is illegal; the guest must not run, and nothing of its state changes.
%macro illegal 0
    mov qword [SAVE_RAX], 0x5a5a
    mov qword [EXITINFO1], -1
    mov dword [EXITINTINFO], -1
    run_guest_at must_not_run
    check_eq qword [EXITCODE], EXIT_INVALID
    check_eq qword [SAVE_RIP], must_not_run
    check_eq qword [SAVE_RAX], 0x5a5a
    check_eq qword [EXITINFO1], 0
    check_d [EXITINTINFO], 0
    fresh_guest
%endmacro
%macro legal 0
    guest_exits EXIT_VMMCALL, nop
    fresh_guest
%endmacro
%macro or_q 2                   ; place, 64-bit mask
    mov rax, %2
    or [%1], rax
%endmacro
%macro and_q 2
    mov rax, %2
    and [%1], rax
%endmacro

main:
    go_long
  use 64
    call set_up_svm
    group "SVM checks: controls"
    legal
    admit I_VMRUN
    illegal
    mov dword [VINTR], 1 << 26      ; virtual NMIs need the intercept of real ones
    illegal
    mov dword [VINTR], 1 << 26
    intercept I_NMI
    legal
    mov dword [ASID], 0
    illegal
    mov dword [ASID], 0x7fff
    legal
    or_q IOPM_BASE, 0x0000fffffffff000  ; the second page is beyond 2^48
    illegal
    mov rax, 0x0000ffffffffd000
    mov [IOPM_BASE], rax        ; ends at 2^48
    legal
    mov rax, 0x0000ffffffffefff
    mov [IOPM_BASE], rax        ; the low bits do not count
    illegal
    mov rax, 1 << 48
    mov [MSRPM_BASE], rax
    illegal
    mov rax, 0x0000fffffffff000
    mov [MSRPM_BASE], rax
    illegal
    mov rax, 0x0000ffffffffe000
    mov [MSRPM_BASE], rax
    legal
    mov qword [IOPM_BASE], IOPM + 0xfff
    legal

    group "SVM checks: EFER"
    and_q SAVE_EFER, ~EFER_SVME
    illegal
    or_q SAVE_EFER, 1 << 32
    illegal
    or_q SAVE_EFER, 2
    illegal
    or_q SAVE_EFER, 1 << 13
    illegal

    group "SVM checks: CR0"
    or_q SAVE_CR0, CR0_NW
    illegal
    or_q SAVE_CR0, CR0_NW | CR0_CD
    legal
    or_q SAVE_CR0, CR0_CD
    legal
    or_q SAVE_CR0, 1 << 32
    illegal
    or_q SAVE_CR0, 1 << 63
    illegal

    group "SVM checks: CR3 and CR4"
    or_q SAVE_CR3, 1 << 48
    illegal
    or_q SAVE_CR3, 1 << 63
    illegal
    or_q SAVE_CR3, 0xfe7        ; reserved, but not checked
    legal
    or_q SAVE_CR4, 1 << 32
    illegal
    or_q SAVE_CR4, 1 << 15
    illegal
    or_q SAVE_CR4, CR4_PCIDE    ; this processor has none
    illegal
    or_q SAVE_CR4, CR4_UMIP     ; nor this
    illegal
    or_q SAVE_CR4, CR4_PGE | CR4_OSFXSR
    legal

    group "SVM checks: debug registers"
    or_q SAVE_DR6, 1 << 32
    illegal
    or_q SAVE_DR7, 1 << 32
    illegal

    group "SVM checks: IA-32e mode"
    and_q SAVE_CR4, ~CR4_PAE
    illegal
    and_q SAVE_CR0, ~CR0_PE
    illegal
    or word [SAVE_CS + 2], 0x400    ; D beside L
    illegal
    mov word [SAVE_CS + 2], 0xc9b
    mov word [SAVE_CS], CODE32
    jmp .compatible
  bits 32
.code32:
    mov ebx, 32
    vmmcall
  bits 64
.compatible:
    run_guest_at .code32        ; D without L: compatibility mode
    check_eq qword [EXITCODE], EXIT_VMMCALL
    check_eq rbx, 32
    fresh_guest

    group "SVM checks: events"
%macro event_illegal 1
    mov dword [EVENTINJ], EVENT_VALID | (%1)
    illegal
%endmacro
    event_illegal 0x100 | 0x20          ; reserved types
    event_illegal 0x500 | 0x20
    event_illegal 0x600 | 0x20
    event_illegal 0x700 | 0x20
    event_illegal EVENT_EXCEPTION | 2   ; no exception
    event_illegal EVENT_EXCEPTION | 32
    event_illegal EVENT_EXCEPTION | 255
    event_illegal EVENT_EXCEPTION | V_OF ; not in 64-bit mode
    event_illegal EVENT_EXCEPTION | V_BR
    mov dword [EVENTINJ], 0x7ff         ; not valid: not looked at
    legal

    group "SVM checks: nested paging"
    mov qword [NESTED_CTL], 1
    mov rax, cr3
    mov [N_CR3], rax
    or_q N_CR3, 1 << 48
    illegal
    mov qword [NESTED_CTL], 1
    mov rax, cr3
    mov [N_CR3], rax
    mov byte [SAVE_PAT + 3], 2
    illegal
    mov qword [NESTED_CTL], 1
    mov rax, cr3
    mov [N_CR3], rax
    mov byte [SAVE_PAT + 7], 8
    illegal
    mov byte [SAVE_PAT + 7], 8          ; no nested paging: not looked at
    legal
    finish

must_not_run:
    inc rax
    vmmcall
    jmp must_not_run
