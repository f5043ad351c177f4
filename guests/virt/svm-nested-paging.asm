; SVM: nested paging: translation in two stages, faults of each with their information, accessed and dirty bits, PAT, all
; forms of the guest's paging: AMD APM volume 2, "Nested Paging".
;! cpu=epyc
%include "guest.inc"
%include "svm.inc"

NPF_FINAL           equ 1 << 32
NPF_TABLE           equ 1 << 33
NESTED_PDPT         equ NESTED_TABLES + 0x1000
NESTED_PD           equ NESTED_TABLES + 0x2000      ; four of them: 4 GiB in large pages
NESTED_PT           equ NESTED_TABLES + 0x6000      ; the 2 MiB at TEST_AREA
TEST_AREA           equ 0x400000
GUEST_TABLES        equ TEST_AREA + 0x10000         ; of the guest's own
PAGE                equ TEST_AREA + 0x1000
ABSENT              equ TEST_AREA + 0x2000
OTHER               equ TEST_AREA + 0x3000          ; where PAGE leads to in some tests

%define NESTED_ENTRY(address) NESTED_PT + (((address) >> 12) & 0x1ff) * 8

%macro nested_guest 0
    fresh_guest
    mov qword [NESTED_CTL], 1
    mov qword [N_CR3], NESTED_TABLES
    inc dword [ASID]                    ; no translation is left from before
    mov eax, [ASID]
    mov [VMCB_IMAGE + 0x58], eax
%endmacro
; EXITINFO1, EXITINFO2, guest: a nested page fault at its first instruction.
%macro violation 3+.nolist
    jmp %%over
%%at:
    %3
    vmmcall
%%over:
    run_guest_at %%at
    check_eq qword [EXITCODE], EXIT_NPF
    check_q qword [EXITINFO1], %1
    check_eq qword [EXITINFO2], %2
    check_eq qword [SAVE_RIP], %%at
    check_eq qword [NRIP], 0
%endmacro
; Bits set, bits cleared in the nested entry of an address.
%macro nested 3
    mov rax, [NESTED_ENTRY(%1)]
    mov r15, %2
    or rax, r15
    mov r15, %3
    not r15
    and rax, r15
    mov [NESTED_ENTRY(%1)], rax
%endmacro
%macro check_entry 2.nolist             ; address, flags of its nested entry
    mov r14, [NESTED_ENTRY(%1)]
    and r14d, 0xfff
    check_eq r14, %2
%endmacro
NX                  equ 0x8000000000000000

main:
    go_long
  use 64
    call set_up_svm
    mov edi, NESTED_TABLES
    mov ecx, 0x7000 / 8
    xor eax, eax
    rep stosq
    mov dword [NESTED_TABLES], NESTED_PDPT | PTE_P | PTE_W | PTE_U
    mov eax, NESTED_PD | PTE_P | PTE_W | PTE_U
    mov edi, NESTED_PDPT
.pointers:
    mov [rdi], eax
    add eax, 0x1000
    add edi, 8
    cmp edi, NESTED_PDPT + 32
    jb .pointers
    mov eax, PTE_P | PTE_W | PTE_U | PTE_PS
    mov edi, NESTED_PD
.directories:
    mov [rdi], rax
    add rax, 0x200000
    add edi, 8
    cmp edi, NESTED_PD + 0x4000
    jb .directories
    mov eax, TEST_AREA | PTE_P | PTE_W | PTE_U
    mov edi, NESTED_PT
.pages:
    mov [rdi], rax
    add eax, 0x1000
    add edi, 8
    cmp edi, NESTED_PT + 0x1000
    jb .pages
    mov qword [NESTED_PD + (TEST_AREA >> 21) * 8], NESTED_PT | PTE_P | PTE_W | PTE_U
    mov dword [PAGE], 0x11111111
    mov dword [OTHER], 0x22222222

    group "nested paging: translation"
    ; covers: SVM npt
    nested_guest
    guest_exits EXIT_VMMCALL, mov ebx, [PAGE]
    check_eq rbx, 0x11111111
    check_entry PAGE, PTE_P | PTE_W | PTE_U | PTE_A
    guest_exits EXIT_VMMCALL, mov [PAGE + 8], ebx
    check_entry PAGE, PTE_P | PTE_W | PTE_U | PTE_A | PTE_D
    nested_guest
    mov dword [NESTED_ENTRY(PAGE)], OTHER | PTE_P | PTE_W | PTE_U
    guest_exits EXIT_VMMCALL, mov ebx, [PAGE]
    check_eq rbx, 0x22222222
    guest_exits EXIT_VMMCALL, mov dword [PAGE + 8], 0x33
    check_d [OTHER + 8], 0x33
    mov eax, [PAGE]                     ; the host's own view
    check_eq rax, 0x11111111
    mov dword [NESTED_ENTRY(PAGE)], PAGE | PTE_P | PTE_W | PTE_U

    group "nested paging: faults of the final address"
    nested_guest
    nested ABSENT, 0, PTE_P
    violation NPF_FINAL | PF_U, ABSENT + 0x10, mov eax, [ABSENT + 0x10]
    violation NPF_FINAL | PF_U | PF_W, ABSENT + 0x10, mov [ABSENT + 0x10], eax
    violation NPF_FINAL | PF_U | PF_W, ABSENT, mov [ABSENT - 2], eax      ; the second of two pages
    nested ABSENT, PTE_P, PTE_W
    violation NPF_FINAL | PF_U | PF_W | PF_P, ABSENT, mov [ABSENT], eax
    guest_exits EXIT_VMMCALL, mov eax, [ABSENT]
    violation NPF_FINAL | PF_U | PF_W | PF_P, ABSENT, mov [ABSENT], eax   ; after it was read
    nested ABSENT, PTE_W, PTE_U
    nested_guest
    violation NPF_FINAL | PF_U | PF_P, ABSENT, mov eax, [ABSENT]
    nested ABSENT, PTE_U | (1 << 51), 0
    violation NPF_FINAL | PF_U | PF_P | PF_R, ABSENT, mov eax, [ABSENT]
    nested ABSENT, 0, 1 << 51
    mov byte [PAGE], 0xc3               ; ret
    nested PAGE, NX, 0
    nested_guest
    mov ebx, PAGE
    jmp .over_fetch
.fetch:
    call rbx
    vmmcall
.over_fetch:
    run_guest_at .fetch
    check_eq qword [EXITCODE], EXIT_NPF
    check_q qword [EXITINFO1], NPF_FINAL | PF_U | PF_P | PF_I
    check_eq qword [EXITINFO2], PAGE
    check_eq qword [SAVE_RIP], PAGE
    movzx eax, byte [FETCHED]
    check_eq rax, 0
    guest_exits EXIT_VMMCALL, mov eax, [PAGE]   ; data may be read
    nested PAGE, 0, NX
    nested_guest
    guest_exits EXIT_VMMCALL, call rbx

    group "nested paging: the instruction's bytes"
    nested ABSENT, 0, PTE_P
    nested_guest
    violation NPF_FINAL | PF_U, ABSENT + 0x10, db 0x8b, 0x04, 0x25, 0x10, 0x20, 0x40, 0x00
    movzx eax, byte [FETCHED]
    check_eq rax, 15
    check_d [FETCHED_BYTES], 0x1025048b
    check_d [FETCHED_BYTES + 4], 0x0f004020

    group "nested paging: the guest's tables"
    mov edi, GUEST_TABLES
    mov ecx, 0x4000 / 8
    xor eax, eax
    rep stosq
    mov dword [GUEST_TABLES], (GUEST_TABLES + 0x1000) | PTE_P | PTE_W | PTE_U
    mov dword [GUEST_TABLES + 0x1000], (GUEST_TABLES + 0x2000) | PTE_P | PTE_W | PTE_U
    mov dword [GUEST_TABLES + 0x2000], PTE_P | PTE_W | PTE_U | PTE_PS
    mov dword [GUEST_TABLES + 0x2008], 0x200000 | PTE_P | PTE_W | PTE_U | PTE_PS
    mov dword [GUEST_TABLES + 0x2010], (GUEST_TABLES + 0x3000) | PTE_P | PTE_W | PTE_U
    mov dword [GUEST_TABLES + 0x3000], ABSENT | PTE_P | PTE_W | PTE_U
    mov dword [GUEST_TABLES + 0x3008], OTHER | PTE_P | PTE_U
%macro tables_guest 0
    nested_guest
    mov qword [SAVE_CR3], GUEST_TABLES
%endmacro
    tables_guest
    guest_exits EXIT_VMMCALL, mov ebx, [TEST_AREA + 0x1000]
    check_eq rbx, 0x22222222
    check_entry GUEST_TABLES, PTE_P | PTE_W | PTE_U | PTE_A | PTE_D     ; every access to them counts as a write
    check_entry GUEST_TABLES + 0x3000, PTE_P | PTE_W | PTE_U | PTE_A | PTE_D
    check_d [GUEST_TABLES + 0x3008], OTHER | PTE_P | PTE_U | PTE_A
    violation NPF_FINAL | PF_U, ABSENT + 4, mov eax, [TEST_AREA + 4]
    nested GUEST_TABLES + 0x3000, 0, PTE_P
    tables_guest
    violation NPF_TABLE | PF_U | PF_W, GUEST_TABLES + 0x3008, mov eax, [TEST_AREA + 0x1000]
    nested GUEST_TABLES + 0x3000, PTE_P, PTE_W
    tables_guest
    violation NPF_TABLE | PF_U | PF_W | PF_P, GUEST_TABLES + 0x3008, mov eax, [TEST_AREA + 0x1000]
    nested GUEST_TABLES + 0x3000, PTE_W, 0
    nested GUEST_TABLES, 0, PTE_P
    tables_guest
    jmp .over_root
.root:
    nop
.over_root:
    run_guest_at .root                  ; not even the first instruction can be fetched
    check_eq qword [EXITCODE], EXIT_NPF
    check_q qword [EXITINFO1], NPF_TABLE | PF_U | PF_W
    check_eq qword [EXITINFO2], GUEST_TABLES
    check_eq qword [SAVE_RIP], .root
    nested GUEST_TABLES, PTE_P, 0
    tables_guest                        ; the guest's own faults are the guest's
    mov dword [EXCEPTIONS], 1 << V_PF
    mov rax, cr0
    or eax, CR0_WP
    mov [SAVE_CR0], rax
    guest_exits EXIT_EXCEPTION + V_PF, mov [TEST_AREA + 0x1000], eax
    check_eq qword [EXITINFO1], PF_P | PF_W
    check_eq qword [EXITINFO2], TEST_AREA + 0x1000
    guest_exits EXIT_EXCEPTION + V_PF, mov eax, [TEST_AREA + 0x5000]
    check_eq qword [EXITINFO1], 0

    group "nested paging: writes of CR3 within the guest"
    mov dword [GUEST_TABLES + 0x3008], OTHER | PTE_P | PTE_W | PTE_U
    mov dword [GUEST_TABLES + 0x3010], (GUEST_TABLES + 0x3000) | PTE_P | PTE_W | PTE_U     ; the table itself, at +0x2000
    tables_guest
    mov dword [OTHER], 0x22222222
    mov dword [PAGE], 0x11111111
    jmp .over_cr3
.cr3:
    mov ebx, [TEST_AREA + 0x1000]
    mov dword [TEST_AREA + 0x2008], PAGE | PTE_P | PTE_W | PTE_U
    mov rax, cr3
    mov cr3, rax
    mov esi, [TEST_AREA + 0x1000]
    vmmcall
.over_cr3:
    run_guest_at .cr3
    check_eq qword [EXITCODE], EXIT_VMMCALL
    check_eq rbx, 0x22222222
    check_eq rsi, 0x11111111

    group "nested paging: delivery of exceptions"
    nested_guest                        ; the guest's IDT is behind a violation
    nested ABSENT, 0, PTE_P
    mov qword [SAVE_IDTR + 8], ABSENT
    jmp .over_delivery
.delivers:
    ud2
.over_delivery:
    run_guest_at .delivers
    check_eq qword [EXITCODE], EXIT_NPF
    check_q qword [EXITINFO1], NPF_FINAL | PF_U
    check_eq qword [EXITINFO2], ABSENT + V_UD * 16
    check_d [EXITINTINFO], EVENT_VALID | EVENT_EXCEPTION | V_UD
    check_eq qword [SAVE_RIP], .delivers
    nested_guest                        ; its stack is
    mov qword [SAVE_RSP], ABSENT + 0x800
    run_guest_at .delivers
    check_eq qword [EXITCODE], EXIT_NPF
    check_q qword [EXITINFO1], NPF_FINAL | PF_U | PF_W
    check_d [EXITINTINFO], EVENT_VALID | EVENT_EXCEPTION | V_UD
    check_eq qword [SAVE_RSP], ABSENT + 0x800
    nested ABSENT, PTE_P, 0

    group "nested paging: guests without paging, with PAE"
    nested_guest
    mov dword [NESTED_ENTRY(PAGE)], OTHER | PTE_P | PTE_W | PTE_U
    and dword [SAVE_CR0], ~CR0_PG & 0xffffffff
    mov qword [SAVE_EFER], EFER_SVME
    mov word [SAVE_CS], CODE32
    mov word [SAVE_CS + 2], 0xc9b
    jmp .over_flat
  bits 32
.flat:
    mov ebx, [PAGE]
    vmmcall
  bits 64
.over_flat:
    run_guest_at .flat
    check_eq qword [EXITCODE], EXIT_VMMCALL
    check_eq rbx, 0x22222222
    mov dword [GUEST_TABLES + 0x1000], (GUEST_TABLES + 0x2000) | PTE_P  ; as page-directory pointers
    mov dword [GUEST_TABLES + 0x1008], 0x1e7                            ; reserved bits, found when it is used
    or dword [SAVE_CR0], CR0_PG
    mov qword [SAVE_CR4], CR4_PAE
    mov qword [SAVE_CR3], GUEST_TABLES + 0x1000
    mov dword [EXCEPTIONS], 1 << V_PF | 1 << V_GP
    jmp .over_pae
  bits 32
.pae:
    mov eax, cr3
    mov cr3, eax                        ; loads no pointers here
    mov ebx, [0x200000]
    mov ecx, [0x40000000]
  bits 64
.over_pae:
    run_guest_at .pae
    check_eq qword [EXITCODE], EXIT_EXCEPTION + V_PF
    check_eq qword [EXITINFO1], PF_P | PF_R
    check_eq qword [EXITINFO2], 0x40000000
    mov dword [NESTED_ENTRY(PAGE)], PAGE | PTE_P | PTE_W | PTE_U
    mov dword [GUEST_TABLES + 0x1000], (GUEST_TABLES + 0x2000) | PTE_P | PTE_W | PTE_U

    group "nested paging: the guest's PAT is its own"
    nested_guest
    mov dword [SAVE_PAT], 0x01040506
    mov dword [SAVE_PAT + 4], 0x00000607
    jmp .over_pat
.pat:
    mov ecx, MSR_PAT
    rdmsr
    mov ebx, eax
    mov eax, 0x06060606
    wrmsr
    vmmcall
.over_pat:
    run_guest_at .pat
    check_eq qword [EXITCODE], EXIT_VMMCALL
    check_eq rbx, 0x01040506
    check_d [SAVE_PAT], 0x06060606
    mov ecx, MSR_PAT
    rdmsr
    check_eq rax, 0x00070406
    fresh_guest                         ; without nested paging there is only one
    mov dword [SAVE_PAT], 0x01040506
    run_guest_at .pat
    check_eq rbx, 0x00070406
    mov ecx, MSR_PAT
    rdmsr
    check_eq rax, 0x06060606

    group "nested paging: contexts"
    ; covers: SVM flushbyasid
    nested_guest                        ; what one ASID has seen, another has not
    guest_exits EXIT_VMMCALL, mov ebx, [PAGE]
    mov dword [NESTED_ENTRY(PAGE)], OTHER | PTE_P | PTE_W | PTE_U
    mov byte [TLB_CONTROL], 3           ; forgets this guest's
    guest_exits EXIT_VMMCALL, mov ebx, [PAGE]
    check_eq rbx, 0x22222222
    mov byte [TLB_CONTROL], 0
    mov dword [NESTED_ENTRY(PAGE)], PAGE | PTE_P | PTE_W | PTE_U
    mov byte [TLB_CONTROL], 1           ; everything
    guest_exits EXIT_VMMCALL, mov ebx, [PAGE]
    mov eax, [PAGE]
    check_eq rbx, rax
    mov dword [NESTED_ENTRY(PAGE)], OTHER | PTE_P | PTE_W | PTE_U
    mov byte [TLB_CONTROL], 7
    guest_exits EXIT_VMMCALL, mov ebx, [PAGE]
    check_eq rbx, 0x22222222
    mov byte [TLB_CONTROL], 0
    mov dword [NESTED_ENTRY(PAGE)], PAGE | PTE_P | PTE_W | PTE_U
    inc dword [ASID]
    guest_exits EXIT_VMMCALL, mov ebx, [PAGE]
    mov eax, [PAGE]
    check_eq rbx, rax
    finish
