; SVM: guests in real mode, paged real mode, protected mode, virtual-8086 mode, with every kind of paging, and what of
; segments VMRUN takes over: AMD APM volume 2, "VMRUN" and "Paged Real Mode".
;! cpu=epyc
%include "guest.inc"
%include "svm.inc"

; Selector, attributes, limit, base of a segment of the guest's.
%macro save_state 5
    mov word [%1], %2
    mov word [%1 + 2], %3
    mov dword [%1 + 4], %4
    mov qword [%1 + 8], %5
%endmacro
REAL_BASE           equ LOAD_ADDRESS
; A guest in real mode; code is addressed as `at16`.
%macro real_guest 0
    fresh_guest
    and qword [SAVE_CR0], ~(CR0_PE)
    and dword [SAVE_CR0], ~CR0_PG & 0xffffffff
    mov qword [SAVE_EFER], EFER_SVME
    save_state SAVE_CS, REAL_SEGMENT, 0x93, 0xffff, REAL_BASE
    save_state SAVE_DS, 0x3000, 0x93, 0xffff, 0x30000
    save_state SAVE_ES, 0x3100, 0x93, 0xffff, 0x31000
    save_state SAVE_SS, 0, 0x93, 0xffff, 0
    mov qword [SAVE_RSP], USER_STACK_TOP
    mov dword [SAVE_IDTR + 4], 0x3ff
    mov qword [SAVE_IDTR + 8], 0
%endmacro
%macro protected_guest 0
    fresh_guest
    and dword [SAVE_CR0], ~CR0_PG & 0xffffffff
    mov qword [SAVE_EFER], EFER_SVME
    save_state SAVE_CS, CODE32, 0xc9b, 0xffffffff, 0
    save_state SAVE_DS, DATA32, 0xc93, 0xffffffff, 0
    save_state SAVE_SS, DATA32, 0xc93, 0xffffffff, 0
%endmacro
; Page tables of the guest's own at SVM_FREE: a large page that maps 0x400000 to 0x200000 beside the identity.
LEGACY_TABLE        equ SVM_FREE
PAE_POINTERS        equ SVM_FREE + 0x1000
PAE_DIRECTORY       equ SVM_FREE + 0x2000
TEST_WORD           equ SVM_FREE + 0x3000

main:
    go_long
  use 64
    call set_up_svm
    mov dword [TEST_WORD], 0x600df00d
    mov edi, LEGACY_TABLE
    mov ecx, 0x3000 / 8
    xor eax, eax
    rep stosq
    mov dword [LEGACY_TABLE], PTE_P | PTE_W | PTE_PS
    mov dword [LEGACY_TABLE + 8], 0 | PTE_P | PTE_W | PTE_PS    ; 8 MiB on is the beginning again
    mov dword [PAE_POINTERS], PAE_DIRECTORY | PTE_P
    mov dword [PAE_DIRECTORY], PTE_P | PTE_W | PTE_PS
    mov dword [PAE_DIRECTORY + 8], 0x200000 | PTE_P | PTE_W | PTE_PS
    mov dword [PAE_DIRECTORY + 3 * 8], 0x200000 | PTE_P | PTE_W | PTE_PS

    group "SVM modes: real mode"
    real_guest
    mov word [SCRATCH + 0x10], 0x1234
    jmp .after_real
  bits 16
.real:
    mov ax, [0x10]                  ; DS is SCRATCH
    mov [es:0x20], ax
    push cs
    pop bx
    mov cx, ss
    mov dx, 0x3200
    mov ds, dx
    mov byte [0x30], 0x77
    push word 0x5678
    vmmcall
.real_end:
  bits 64
.after_real:
    run_guest_at .real - REAL_BASE
    check_eq qword [EXITCODE], EXIT_VMMCALL
    check_eq qword [SAVE_RIP], .real_end - REAL_BASE - 3
    check_w [SCRATCH + 0x1020], 0x1234
    movzx eax, bx
    check_eq rax, REAL_SEGMENT
    check_w [SAVE_DS], 0x3200
    check_eq qword [SAVE_DS + 8], 0x32000
    check_d [SAVE_DS + 4], 0xffff
    movzx eax, byte [SCRATCH + 0x2030]
    check_eq rax, 0x77
    check_eq qword [SAVE_RSP], USER_STACK_TOP - 2
    check_w [USER_STACK_TOP - 2], 0x5678
    movzx eax, byte [SAVE_CPL]
    check_eq rax, 0

    group "SVM modes: the privilege level of real mode is 0 whatever the control block says"
    real_guest
    mov byte [SAVE_CPL], 3
    jmp .after_level
  bits 16
.level:
    mov eax, cr0
    vmmcall
  bits 64
.after_level:
    run_guest_at .level - REAL_BASE
    check_eq qword [EXITCODE], EXIT_VMMCALL

    group "SVM modes: real-mode interrupts"
    real_guest
    mov word [SCRATCH], .real_handler - REAL_BASE
    mov word [SCRATCH + 2], REAL_SEGMENT
    mov qword [SAVE_IDTR + 8], SCRATCH - 0x21 * 4
    jmp .after_interrupt
  bits 16
.raises:
    int 0x21
.real_handler:
    vmmcall
  bits 64
.after_interrupt:
    run_guest_at .raises - REAL_BASE
    check_eq qword [EXITCODE], EXIT_VMMCALL
    check_eq qword [SAVE_RSP], USER_STACK_TOP - 6
    check_w [USER_STACK_TOP - 6], .real_handler - REAL_BASE
    mov dword [EXCEPTIONS], 1 << V_GP
    mov dword [SAVE_IDTR + 4], 0x80
    run_guest_at .raises - REAL_BASE
    check_eq qword [EXITCODE], EXIT_EXCEPTION + V_GP
    check_d [EXITINTINFO], EVENT_VALID | EVENT_SOFTWARE | 0x21

    group "SVM modes: paged real mode"
    real_guest
    or dword [SAVE_CR0], CR0_PG
    mov qword [SAVE_CR4], CR4_PSE
    mov qword [SAVE_CR3], LEGACY_TABLE
    mov word [SCRATCH + 0x10], 0x4321
    mov qword [SAVE_DS + 8], 0x800000 + SCRATCH     ; only the table makes this SCRATCH
    jmp .after_paged
  bits 16
.paged:
    mov ax, [0x10]
    mov bx, ax
    vmmcall
  bits 64
.after_paged:
    run_guest_at .paged - REAL_BASE
    check_eq qword [EXITCODE], EXIT_VMMCALL
    movzx eax, bx
    check_eq rax, 0x4321

    group "SVM modes: protected mode without paging"
    protected_guest
    jmp .after_flat
  bits 32
.flat:
    mov eax, [TEST_WORD]
    mov ebx, eax
    push ebx
    vmmcall
  bits 64
.after_flat:
    run_guest_at .flat
    check_eq qword [EXITCODE], EXIT_VMMCALL
    check_eq rbx, 0x600df00d
    check_eq qword [SAVE_RSP], GUEST_STACK_TOP - 4

    group "SVM modes: exceptions that 64-bit mode does not have"
    protected_guest
    jmp .after_exceptions
  bits 32
.overflows:
    mov al, 0x7f
    inc al
    into
    vmmcall
.exceeds:
    mov eax, 3
    bound eax, [.bounds]
    vmmcall
.returns:
    push dword FLAG_NT | 2
    popf
.nested:
    iret
    vmmcall
.bounds:
    dd 0, 2
  bits 64
.after_exceptions:
    mov dword [EXCEPTIONS], (1 << V_OF) | (1 << V_BR) | (1 << V_TS)
    run_guest_at .overflows
    check_eq qword [EXITCODE], EXIT_EXCEPTION + V_OF
    run_guest_at .exceeds
    check_eq qword [EXITCODE], EXIT_EXCEPTION + V_BR
    run_guest_at .returns                   ; the task it came from is none
    check_eq qword [EXITCODE], EXIT_EXCEPTION + V_TS
    check_eq qword [SAVE_RIP], .nested
    check_eq qword [EXITINFO1], 0

    group "SVM modes: 32-bit paging"
    protected_guest
    or dword [SAVE_CR0], CR0_PG
    mov qword [SAVE_CR4], CR4_PSE
    mov qword [SAVE_CR3], LEGACY_TABLE
    jmp .after_legacy
  bits 32
.legacy:
    mov ebx, [0x800000 + TEST_WORD]
    mov ecx, [0x400000]             ; not mapped
    vmmcall
  bits 64
.after_legacy:
    mov dword [EXCEPTIONS], 1 << V_PF
    xor ebx, ebx
    run_guest_at .legacy
    check_eq qword [EXITCODE], EXIT_EXCEPTION + V_PF
    check_eq qword [EXITINFO2], 0x400000
    check_eq rbx, 0x600df00d

    group "SVM modes: PAE paging"
    protected_guest
    or dword [SAVE_CR0], CR0_PG
    mov qword [SAVE_CR4], CR4_PAE
    mov qword [SAVE_CR3], PAE_POINTERS
    jmp .after_pae
  bits 32
.pae:
    mov ebx, [0x400000 + TEST_WORD]
    mov ecx, [0x600000]
    vmmcall
  bits 64
.after_pae:
    xor ebx, ebx
    run_guest_at .pae
    check_eq qword [EXITCODE], EXIT_VMMCALL
    check_eq rbx, 0x600df00d
    mov dword [PAE_POINTERS + 8], 0x1e7     ; loaded with CR3: reserved bits matter there
    jmp .after_reload
  bits 32
.reload:
    mov eax, cr3
    mov cr3, eax
    vmmcall
  bits 64
.after_reload:
    mov dword [EXCEPTIONS], 1 << V_GP
    run_guest_at .reload
    check_eq qword [EXITCODE], EXIT_EXCEPTION + V_GP
    mov dword [PAE_POINTERS + 8], 0

    group "SVM modes: virtual-8086 mode"
    protected_guest
    mov qword [SAVE_RFLAGS], FLAG_VM | FLAG_IOPL | 2
    save_state SAVE_CS, REAL_SEGMENT, 0xf3, 0xffff, REAL_BASE
    save_state SAVE_DS, 0x3000, 0xf3, 0xffff, 0x30000
    save_state SAVE_SS, 0, 0xf3, 0xffff, 0
    mov qword [SAVE_RSP], USER_STACK_TOP
    mov byte [SAVE_CPL], 0              ; it is 3 all the same
    mov dword [EXCEPTIONS], 1 << V_GP
    mov word [SCRATCH + 0x10], 0x8086
    jmp .after_8086
  bits 16
.virtual:
    mov bx, [0x10]
    mov cx, cs
    hlt
  bits 64
.after_8086:
    run_guest_at .virtual - REAL_BASE
    check_eq qword [EXITCODE], EXIT_EXCEPTION + V_GP
    movzx eax, bx
    check_eq rax, 0x8086
    movzx eax, byte [SAVE_CPL]
    check_eq rax, 3

    group "SVM modes: from real mode to 64-bit mode by itself"
    real_guest
    mov rax, cr3
    mov [.root], eax
    jmp .after_climb
  bits 16
.climb:
    mov eax, CR4_PAE
    mov cr4, eax
    mov ax, REAL_SEGMENT
    mov ds, ax
    mov eax, [at16(.root)]
    mov cr3, eax
    mov ecx, MSR_EFER
    rdmsr
    or eax, EFER_LME
    wrmsr
    lgdt [at16(gdt_pointer)]
    mov eax, cr0
    or eax, CR0_PE | CR0_PG
    mov cr0, eax
    jmp dword CODE64:.top
align 4
.root: dd 0
  bits 64
.top:
    mov rbx, 0x123456789abcdef0
    vmmcall
.after_climb:
    run_guest_at .climb - REAL_BASE
    check_eq qword [EXITCODE], EXIT_VMMCALL
    check_q rbx, 0x123456789abcdef0
    check_w [SAVE_CS], CODE64
    check_w [SAVE_CS + 2], 0xa9b
    mov rax, [SAVE_EFER]
    and eax, EFER_LMA
    check_eq rax, EFER_LMA

    group "SVM modes: segments"
    protected_guest
    mov word [SAVE_DS], 0
    mov word [SAVE_DS + 2], 0
    mov dword [EXCEPTIONS], 1 << V_GP
    jmp .after_null
  bits 32
.null:
    mov eax, [TEST_WORD]
    vmmcall
  bits 64
.after_null:
    run_guest_at .null
    check_eq qword [EXITCODE], EXIT_EXCEPTION + V_GP
    protected_guest
    save_state SAVE_DS, 0x77, 0x493, 0xfff, TEST_WORD  ; no descriptor table says so
    mov dword [EXCEPTIONS], 1 << V_GP
    jmp .after_hidden
  bits 32
.hidden:
    mov ebx, [0]
    mov ecx, [0xffd]
  bits 64
.after_hidden:
    xor ebx, ebx
    run_guest_at .hidden
    check_eq qword [EXITCODE], EXIT_EXCEPTION + V_GP
    check_eq rbx, 0x600df00d
    check_w [SAVE_DS], 0x77
    finish
