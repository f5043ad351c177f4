; SVM: every intercept of an instruction, with what the exit tells: AMD APM volume 2, "Instruction Intercepts", "Decode
; Assists", "IOIO Intercepts", "MSR Intercepts".
;! cpu=epyc,+invpcid,+monitor
%include "guest.inc"
%include "svm.inc"

DECODED             equ 1 << 63         ; EXITINFO1: a MOV of a control register

; Intercept, instruction: executed without it, intercepted with it.
%macro plain 2+.nolist
    executed %2
    intercept %1
    intercepted EXIT(%1), %2
    check_eq qword [EXITINFO1], 0
    fresh_guest
%endmacro
; The same for an instruction that cannot be executed here.
%macro only_intercepted 2+.nolist
    intercept %1
    intercepted EXIT(%1), %2
    fresh_guest
%endmacro
; Vector, instruction at level 3: the exception goes before the intercept.
%macro guarded 3+.nolist                ; intercept, vector, instruction
    fresh_guest
    intercept %1
    mov dword [EXCEPTIONS], 1 << (%2)
    mov byte [SAVE_CPL], 3
    or word [SAVE_SS + 2], 0x60
    or word [SAVE_CS + 2], 0x60
    guest_exits EXIT_EXCEPTION + (%2), %3
    fresh_guest
%endmacro

main:
    go_long
  use 64
    call set_up_svm
    group "SVM intercepts: plain instructions"
    ; covers: SVM nrip_save
    plain I_CPUID, cpuid
    plain I_RDTSC, rdtsc
    plain I_RDTSCP, rdtscp
    plain I_PUSHF, pushfq
    plain I_INVD, invd
    plain I_WBINVD, wbinvd
    plain I_PAUSE, pause
    plain I_IDTR_READ, sidt [SVM_FREE]
    plain I_GDTR_READ, sgdt [SVM_FREE]
    plain I_LDTR_READ, sldt eax
    plain I_TR_READ, str eax
    only_intercepted I_POPF, popfq
    mov qword [GUEST_STACK_TOP - 8], 0x202
    mov qword [SAVE_RSP], GUEST_STACK_TOP - 8
    executed popfq
    fresh_guest
    only_intercepted I_LDTR_WRITE, lldt ax
    only_intercepted I_TR_WRITE, ltr ax
    only_intercepted I_GDTR_WRITE, lgdt [SVM_FREE]
    only_intercepted I_IDTR_WRITE, lidt [SVM_FREE]
    sidt [SVM_FREE]
    executed lidt [SVM_FREE]
    fresh_guest
    only_intercepted I_HLT, hlt
    only_intercepted I_RDPMC, rdpmc
    only_intercepted I_RSM, rsm
    only_intercepted I_IRET, iretq
    only_intercepted I_ICEBP, db 0xf1
    only_intercepted I_VMLOAD, vmload
    only_intercepted I_VMSAVE, vmsave
    only_intercepted I_STGI, stgi
    only_intercepted I_CLGI, clgi
    only_intercepted I_VMRUN, vmrun
    only_intercepted I_VMMCALL, vmmcall
    xor ecx, ecx
    mov eax, SVM_FREE
    plain I_MONITOR, monitor
    xor ecx, ecx
    only_intercepted I_MWAIT, mwait
    intercept I_INVLPGA
    mov rax, 0x123456789000
    mov [SAVE_RAX], rax
    intercepted EXIT(I_INVLPGA), invlpga
    check_q qword [EXITINFO1], 0x123456789000
    fresh_guest

    group "SVM intercepts: privilege comes first"
    guarded I_HLT, V_GP, hlt
    guarded I_INVD, V_GP, invd
    guarded I_WBINVD, V_GP, wbinvd
    guarded I_GDTR_WRITE, V_GP, lgdt [SVM_FREE]
    guarded I_TR_WRITE, V_GP, ltr ax
    guarded I_MSR, V_GP, rdmsr
    guarded I_VMRUN, V_GP, vmrun
    guarded I_STGI, V_GP, stgi
    guarded I_INVLPG, V_GP, invlpg [0]
    guarded I_RDPMC, V_GP, rdpmc
    guarded I_MONITOR, V_UD, monitor

    group "SVM intercepts: control registers"
    ; covers: SVM decodeassists
    mov word [CR_READ], 1
    intercepted 0x00, mov r11, cr0
    check_q qword [EXITINFO1], DECODED | 11
    intercepted 0x00, smsw ebx
    check_eq qword [EXITINFO1], 0
    executed mov rbx, cr3
    mov word [CR_READ], 1 << 2
    intercepted 0x02, mov rcx, cr2
    mov word [CR_READ], 1 << 3
    intercepted 0x03, mov rcx, cr3
    check_q qword [EXITINFO1], DECODED | 1
    mov word [CR_READ], 1 << 4
    intercepted 0x04, mov rsi, cr4
    mov word [CR_READ], 1 << 8
    intercepted 0x08, mov rdi, cr8
    executed mov rdi, cr4
    fresh_guest
    mov word [CR_WRITE], 1
    mov rbx, cr0
    intercepted 0x10, mov cr0, rbx
    check_q qword [EXITINFO1], DECODED | 3
    intercepted 0x10, clts
    check_eq qword [EXITINFO1], 0
    intercepted 0x10, lmsw bx
    check_eq qword [EXITINFO1], 0
    mov rcx, cr3
    executed mov cr3, rcx
    mov word [CR_WRITE], 1 << 2
    intercepted 0x12, mov cr2, rcx
    mov word [CR_WRITE], 1 << 3
    intercepted 0x13, mov cr3, rcx
    mov word [CR_WRITE], 1 << 4
    intercepted 0x14, mov cr4, r15
    check_q qword [EXITINFO1], DECODED | 15
    mov word [CR_WRITE], 1 << 8
    intercepted 0x18, mov cr8, rcx
    fresh_guest

    group "SVM intercepts: selective writes of CR0"
    intercept I_CR0_SELECTIVE
    mov rbx, cr0
    xor ebx, CR0_TS | CR0_MP
    executed mov cr0, rbx
    mov rax, cr0
    mov [SAVE_CR0], rax
    mov rbx, cr0
    xor ebx, CR0_AM
    intercepted EXIT(I_CR0_SELECTIVE), mov cr0, rbx
    mov rax, cr0
    mov [SAVE_CR0], rax
    mov ebx, 0xd                ; TS and EM
    intercepted EXIT(I_CR0_SELECTIVE), lmsw bx
    mov ebx, 0xb                ; TS and MP
    executed lmsw bx
    executed clts
    mov word [CR_WRITE], 1      ; the general intercept goes before
    mov rax, cr0
    mov [SAVE_CR0], rax
    mov rbx, cr0
    xor ebx, CR0_AM
    intercepted 0x10, mov cr0, rbx
    fresh_guest

    group "SVM intercepts: debug registers"
    and qword [SAVE_CR4], ~CR4_DE               ; DR4 and DR5 are DR6 and DR7, with intercepts of their own
%assign number 0
%rep 8
    mov word [DR_READ], 1 << number
    intercepted 0x20 + number, mov r9, dr %+ number
    check_eq qword [EXITINFO1], 9
    mov word [DR_READ], ~(1 << number)
    executed mov r9, dr %+ number
    mov word [DR_READ], 0
    mov word [DR_WRITE], 1 << number
    intercepted 0x30 + number, mov dr %+ number, r12
    check_eq qword [EXITINFO1], 12
    mov word [DR_WRITE], 0
  %assign number number + 1
%endrep
    fresh_guest

    group "SVM intercepts: MSRs"
    intercept I_MSR
    mov ecx, MSR_LSTAR
    executed rdmsr              ; no bit is set
    set_bit MSRPM + 0x800, (MSR_LSTAR - 0xc0000000) * 2
    intercepted EXIT(I_MSR), rdmsr
    check_eq qword [EXITINFO1], 0
    mov ecx, MSR_LSTAR
    rdmsr
    mov [SAVE_RAX], rax
    executed wrmsr
    set_bit MSRPM + 0x800, (MSR_LSTAR - 0xc0000000) * 2 + 1
    intercepted EXIT(I_MSR), wrmsr
    check_eq qword [EXITINFO1], 1
    clear_bit MSRPM + 0x800, (MSR_LSTAR - 0xc0000000) * 2
    executed rdmsr
    set_bit MSRPM, MSR_SYSENTER_CS * 2
    mov ecx, MSR_SYSENTER_CS
    intercepted EXIT(I_MSR), rdmsr
    set_bit MSRPM + 0x1000, (MSR_VM_CR - 0xc0010000) * 2
    mov ecx, MSR_VM_CR
    intercepted EXIT(I_MSR), rdmsr
    mov ecx, 0x2000             ; outside of all ranges
    intercepted EXIT(I_MSR), rdmsr
    mov ecx, 0x40000000
    intercepted EXIT(I_MSR), wrmsr
    check_eq qword [EXITINFO1], 1
    mov ecx, 0xc0002000
    intercepted EXIT(I_MSR), rdmsr
    fresh_guest

    group "SVM intercepts: ports"
%macro port_exit 2+.nolist              ; EXITINFO1, instruction
    intercepted EXIT(I_IOIO), %2
    mov r14d, %1
    check_eq qword [EXITINFO1], r14
    mov r14, [NRIP]
    check_eq qword [EXITINFO2], r14
%endmacro
    intercept I_IOIO
    executed in al, 0x80        ; no bit is set
    bts dword [IOPM + 0x80 / 8], 0
    port_exit 0x800211, in al, 0x80
    port_exit 0x800241, in eax, 0x80
    port_exit 0x800210, out 0x80, al
    port_exit 0x7f0220, out 0x7f, ax    ; reaches into 0x80
    port_exit 0x7d0240, out 0x7d, eax
    executed in al, 0x81
    mov edx, 0x80
    port_exit 0x800211, in al, dx
    port_exit 0x800220, out dx, ax
    mov edi, SVM_FREE
    mov esi, SVM_FREE
    mov ecx, 3
    port_exit 0x800215, insb
    port_exit 0x800e14, outsb           ; segment DS
    port_exit 0x80021d, rep insb
    port_exit 0x80022d, rep insw
    port_exit 0x800e4c, rep outsd
    check_eq rcx, 3
    port_exit 0x80014d, a32 rep insd
    port_exit 0x801214, fs outsb
    mov edx, 0xffff
    bts dword [IOPM + 0x2000], 0        ; ports beyond 0xffff
    port_exit 0xffff0221, in ax, dx
    executed in al, dx
    bts dword [IOPM + 0x1ffc], 31
    port_exit 0xffff0211, in al, dx
    fresh_guest

    group "SVM intercepts: INVLPG, INVPCID, XSETBV, software interrupts"
    intercept I_INVLPG
    mov ebx, SVM_FREE
    intercepted EXIT(I_INVLPG), invlpg [rbx + 0x123]
    check_eq qword [EXITINFO1], SVM_FREE + 0x123
    fresh_guest
    executed invlpg [rbx]
    intercept I_INVPCID
    mov ecx, 2
    intercepted EXIT(I_INVPCID), invpcid rcx, [rbx + rcx * 8 + 0x10]
    check_eq qword [EXITINFO1], SVM_FREE + 0x20
    check_eq qword [EXITINFO2], 2
    fresh_guest
    mov ecx, 2
    mov qword [SVM_FREE], 0
    mov qword [SVM_FREE + 8], 0
    executed invpcid rcx, [rbx]
    mov rax, cr4
    or eax, CR4_OSXSAVE
    mov cr4, rax
    or qword [SAVE_CR4], CR4_OSXSAVE
    intercept I_XSETBV
    xor ecx, ecx
    intercepted EXIT(I_XSETBV), xsetbv
    fresh_guest
    intercept I_SWINT
    intercepted EXIT(I_SWINT), int 0x42
    check_eq qword [EXITINFO1], 0x42
    intercepted EXIT(I_SWINT), db 0xcd, 3
    check_eq qword [EXITINFO1], 3
    mov dword [EXCEPTIONS], 1 << V_BP   ; INT3 is an exception instead
    guest_exits EXIT_EXCEPTION + V_BP, int3
    finish
