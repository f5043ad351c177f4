; SVM: AVIC: registers that the guest reaches and those that it leaves for, priorities, interrupts by its page, interrupts
; between processors: AMD APM volume 2, "Advanced Virtual Interrupt Controller".
;! cpu=epyc
%include "guest.inc"
%include "svm.inc"

PAGE                equ SVM_FREE                ; the guest's, and another processor's
OTHER_PAGE          equ SVM_FREE + 0x1000
PHYSICAL_TABLE      equ SVM_FREE + 0x2000
LOGICAL_TABLE       equ SVM_FREE + 0x3000
APIC                equ 0xfee00000
V_AVIC              equ 1 << 31
V_MASKING           equ 1 << 24
WRITE               equ 1 << 32
ENTRY_VALID         equ 1 << 31                 ; of the upper half
ENTRY_RUNNING       equ 1 << 30
NOT_RUNNING         equ 1 << 32                 ; EXITINFO2
NO_TARGET           equ 2 << 32

ID                  equ 0x20
VERSION             equ 0x30
TPR                 equ 0x80
PPR                 equ 0xa0
EOI                 equ 0xb0
DFR                 equ 0xe0
SVR                 equ 0xf0
ISR                 equ 0x100
TMR                 equ 0x180
IRR                 equ 0x200
ICR                 equ 0x300
ICR_HIGH            equ 0x310
TIMER_INIT          equ 0x380
TIMER_NOW           equ 0x390
TO_SELF             equ 1 << 18
TO_ALL              equ 2 << 18
TO_OTHERS           equ 3 << 18
LOGICAL             equ 1 << 11

; A guest with AVIC, whose interrupts 0x55 and 0x66 end in `guest_handler`. Changes RAX, RCX, RDI.
%macro avic_guest 0
    call make_avic_guest
%endmacro
; EXITINFO1, EXITINFO2, instruction: left behind it.
%macro traps 4+.nolist          ; code, information, information, instruction
    jmp %%over
%%at:
    %4
%%next:
    vmmcall
%%over:
    run_guest_at %%at
    check_eq qword [EXITCODE], %1
    check_eq qword [SAVE_RIP], %%next
    check_q qword [EXITINFO1], %2
    check_q qword [EXITINFO2], %3
%endmacro
; The same for an access that is an exit in its place.
%macro refuses 2+.nolist        ; information, instruction
    jmp %%over
%%at:
    %2
    vmmcall
%%over:
    run_guest_at %%at
    check_eq qword [EXITCODE], EXIT_AVIC_ACCESS
    check_eq qword [SAVE_RIP], %%at
    check_q qword [EXITINFO1], %1
%endmacro

main:
    go_long
  use 64
    call set_up_svm
    call nested_identity
    mov ebx, APIC

    group "SVM AVIC: registers"
    ; covers: SVM avic
    avic_guest
    mov dword [PAGE + ID], 0x12000000
    executed mov ecx, [rbx + ID]
    check_eq rcx, 0x12000000
    executed movzx ecx, byte [rbx + ID + 3]
    check_eq rcx, 0x12
    executed mov ecx, [rbx + ISR]
    mov ecx, 0x34000000
    traps EXIT_AVIC_ACCESS, WRITE | ID, 0, mov [rbx + ID], ecx
    check_d [PAGE + ID], 0x34000000
    traps EXIT_AVIC_ACCESS, WRITE | SVR, 0, mov [rbx + SVR], ecx
    traps EXIT_AVIC_ACCESS, WRITE | TIMER_INIT, 0, mov [rbx + TIMER_INIT], ecx
    refuses WRITE | VERSION, mov [rbx + VERSION], ecx
    refuses WRITE | IRR, mov [rbx + IRR], ecx
    refuses WRITE | TPR, mov byte [rbx + TPR], 1
    refuses TIMER_NOW, mov ecx, [rbx + TIMER_NOW]
    refuses ID, mov rcx, [rbx + ID]
    executed mov [rbx + ICR_HIGH], ecx
    check_d [PAGE + ICR_HIGH], 0x34000000

    group "SVM AVIC: priorities"
    avic_guest
    mov ecx, 0x50
    executed mov [rbx + TPR], ecx
    check_d [PAGE + TPR], 0x50
    check_d [PAGE + PPR], 0x50
    executed mov rcx, cr8
    check_eq rcx, 5
    mov ecx, 7
    executed mov cr8, rcx
    check_d [PAGE + TPR], 0x70
    check_d [VINTR], V_AVIC | V_MASKING | 7

    group "SVM AVIC: interrupts"
    avic_guest
    executed mov dword [rbx + ICR], TO_SELF | 0x55
    check_d [PAGE + IRR + 0x20], 1 << 0x15
    mov qword [SAVE_RFLAGS], FLAG_IF | 2
    run_guest_at never                          ; at the entry
    check_eq qword [SAVE_RIP], guest_handler
    check_eq qword [GUEST_STACK_TOP - 40], never
    check_d [PAGE + IRR + 0x20], 0
    check_d [PAGE + ISR + 0x20], 1 << 0x15
    check_d [PAGE + PPR], 0x50
    mov qword [SAVE_RFLAGS], 2
    executed mov dword [rbx + EOI], 0
    check_d [PAGE + ISR + 0x20], 0
    check_d [PAGE + PPR], 0
    avic_guest
    mov qword [SAVE_RFLAGS], FLAG_IF | 2
    jmp .over_send
.sends:
    mov dword [rbx + ICR], TO_SELF | 0x55
.sent:
    nop
    hlt
.over_send:
    run_guest_at .sends                         ; right behind the command
    check_eq qword [SAVE_RIP], guest_handler
    check_eq qword [GUEST_STACK_TOP - 40], .sent
    avic_guest
    mov dword [PAGE + TPR], 0x60
    mov dword [PAGE + PPR], 0x60
    bts dword [PAGE + IRR + 0x20], 0x15
    mov qword [SAVE_RFLAGS], FLAG_IF | 2
    executed nop                                ; its priority is too low
    mov qword [SAVE_RFLAGS], FLAG_IF | 2
    xor ecx, ecx
    jmp .over_lower
.lowers:
    mov cr8, rcx
.lowered:
    nop
    hlt
.over_lower:
    run_guest_at .lowers
    check_eq qword [SAVE_RIP], guest_handler
    check_d [PAGE + ISR + 0x20], 1 << 0x15
    avic_guest
    bts dword [PAGE + IRR + 0x20], 0x15
    jmp .over_sti
.sti:
    sti
    nop
.open:
    nop
    hlt
.over_sti:
    run_guest_at .sti
    check_eq qword [SAVE_RIP], guest_handler
    check_eq qword [GUEST_STACK_TOP - 40], .open
    avic_guest                                  ; level-triggered ones end with the hypervisor's help
    bts dword [PAGE + ISR + 0x30], 6
    bts dword [PAGE + TMR + 0x30], 6
    traps EXIT_AVIC_ACCESS, WRITE | EOI, 0x66, mov dword [rbx + EOI], 0
    check_d [PAGE + ISR + 0x30], 1 << 6

    group "SVM AVIC: interrupts between processors"
    avic_guest
    executed mov dword [rbx + ICR], 0x55        ; by physical ID: the guest's own
    check_d [PAGE + IRR + 0x20], 1 << 0x15
    avic_guest
    mov dword [PAGE + ICR_HIGH], 1 << 24
    traps EXIT_AVIC_IPI, (1 << 56) | 0x66, NOT_RUNNING | 1, mov dword [rbx + ICR], 0x66
    check_d [OTHER_PAGE + IRR + 0x30], 1 << 6   ; it is there all the same
    or dword [PHYSICAL_TABLE + 8 + 4], ENTRY_RUNNING
    executed mov dword [rbx + ICR], 0x55
    check_d [OTHER_PAGE + IRR + 0x20], 1 << 0x15
    mov dword [PAGE + ICR_HIGH], 2 << 24
    traps EXIT_AVIC_IPI, (2 << 56) | 0x66, NO_TARGET | 2, mov dword [rbx + ICR], 0x66
    mov dword [PAGE + ICR_HIGH], 5 << 24        ; beyond the table
    traps EXIT_AVIC_IPI, (5 << 56) | 0x66, NO_TARGET | 5, mov dword [rbx + ICR], 0x66
    mov dword [PAGE + ICR_HIGH], 0
    traps EXIT_AVIC_IPI, 0x466, 0, mov dword [rbx + ICR], 0x466 ; NMI
    avic_guest
    mov dword [PAGE + ICR_HIGH], 3 << 24        ; logical, flat: both
    traps EXIT_AVIC_IPI, (3 << 56) | LOGICAL | 0x66, NOT_RUNNING | 1, mov dword [rbx + ICR], LOGICAL | 0x66
    check_d [PAGE + IRR + 0x30], 1 << 6
    check_d [OTHER_PAGE + IRR + 0x30], 1 << 6
    mov dword [PAGE + ICR_HIGH], 4 << 24
    traps EXIT_AVIC_IPI, (4 << 56) | LOGICAL | 0x66, NO_TARGET | 2, mov dword [rbx + ICR], LOGICAL | 0x66
    mov dword [PAGE + DFR], 0x0fffffff          ; clusters: the second bit of the first one
    mov dword [PAGE + ICR_HIGH], 2 << 24
    traps EXIT_AVIC_IPI, (2 << 56) | LOGICAL | 0x55, NOT_RUNNING | 1, mov dword [rbx + ICR], LOGICAL | 0x55
    check_d [OTHER_PAGE + IRR + 0x20], 1 << 0x15
    avic_guest
    traps EXIT_AVIC_IPI, TO_OTHERS | 0x66, NOT_RUNNING | 1, mov dword [rbx + ICR], TO_OTHERS | 0x66
    check_d [PAGE + IRR + 0x30], 0
    check_d [OTHER_PAGE + IRR + 0x30], 1 << 6
    or dword [PHYSICAL_TABLE + 8 + 4], ENTRY_RUNNING
    executed mov dword [rbx + ICR], TO_ALL | 0x55
    check_d [PAGE + IRR + 0x20], 1 << 0x15
    check_d [OTHER_PAGE + IRR + 0x20], 1 << 0x15

    group "SVM AVIC: the doorbell"
    ; covers: MSR DOORBELL
    write_msr MSR_DOORBELL, 0, 0
    mov ecx, MSR_DOORBELL
    expect V_GP, 0, rdmsr

    group "SVM AVIC: checks"
    avic_guest
    mov qword [NESTED_CTL], 0
    run_guest_at never
    check_eq qword [EXITCODE], EXIT_INVALID
    avic_guest
    mov rax, 1 << 48
    mov [AVIC_PHYSICAL_TABLE], rax
    run_guest_at never
    check_eq qword [EXITCODE], EXIT_INVALID
    avic_guest
    mov rax, (1 << 48) | PAGE
    mov [AVIC_BACKING_PAGE], rax
    run_guest_at never
    check_eq qword [EXITCODE], EXIT_INVALID
    avic_guest
    mov dword [VINTR], 0                        ; not enabled: not looked at
    mov [AVIC_BACKING_PAGE], rax
    executed nop
    finish

never:
    hlt
    jmp never

make_avic_guest:
    own_table
    gate 0x55, CODE64, 0x8e
    gate 0x66, CODE64, 0x8e
    mov edi, PAGE
    mov ecx, 0x4000 / 8
    xor eax, eax
    rep stosq
    mov dword [PAGE + DFR], -1
    mov dword [PHYSICAL_TABLE], PAGE
    mov dword [PHYSICAL_TABLE + 4], ENTRY_VALID | ENTRY_RUNNING
    mov dword [PHYSICAL_TABLE + 8], OTHER_PAGE | 1
    mov dword [PHYSICAL_TABLE + 8 + 4], ENTRY_VALID
    mov dword [LOGICAL_TABLE], (1 << 31) | 0
    mov dword [LOGICAL_TABLE + 4], (1 << 31) | 1
    mov qword [NESTED_CTL], 1
    mov qword [N_CR3], NESTED_TABLES
    mov dword [VINTR], V_AVIC | V_MASKING
    mov eax, APIC
    mov [AVIC_BAR], rax
    mov qword [AVIC_BACKING_PAGE], PAGE
    mov qword [AVIC_LOGICAL_TABLE], LOGICAL_TABLE
    mov qword [AVIC_PHYSICAL_TABLE], PHYSICAL_TABLE | 2
    ret
