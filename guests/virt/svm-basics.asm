; SVM: CPUID, EFER.SVME, VM_CR, VM_HSAVE_PA, what VMRUN loads and #VMEXIT saves and restores, VMLOAD and VMSAVE, the global
; interrupt flag: AMD APM volume 2, "Secure Virtual Machine".
;! cpu=epyc,virtualization=unlocked
%include "guest.inc"
%include "svm.inc"

; Instruction that #UD without EFER.SVME and #GP at level 3.
%macro privileged 1+
    expect V_UD, 0, %1
    mov ecx, MSR_EFER
    rdmsr
    or eax, EFER_SVME
    wrmsr
    mov eax, VMCB
    user_expect V_GP, 0, %1
    mov ecx, MSR_EFER
    rdmsr
    and eax, ~EFER_SVME
    wrmsr
    mov eax, VMCB
%endmacro

main:
    go_long
  use 64
    group "SVM: CPUID"
    mov eax, 0x80000001
    cpuid
    bt ecx, 2
    check_true c
    mov eax, 0x8000000a
    cpuid
    and eax, 0xff
    check_eq rax, 1
    check_eq rbx, 0x8000
    mov eax, edx
    and eax, 0x20194fd            ; nested paging, lock, next RIP, TSC rate, clean bits, flush by ASID, decode assists, ...
    check_eq rax, 0x20194fd

    group "SVM: instructions without EFER.SVME and without privilege"
    mov eax, VMCB
    privileged vmrun
    privileged vmload
    privileged vmsave
    privileged stgi
    privileged clgi
    privileged invlpga
    expect V_UD, 0, vmmcall

    group "SVM: VM_CR and VM_HSAVE_PA"
    ; covers: SVM svm_lock, MSR VM_CR, MSR VM_HSAVE_PA, virtualization=unlocked
    check_msr MSR_VM_CR, 0, 0
    write_msr MSR_VM_CR, 0, VM_CR_SVMDIS
    mov ecx, MSR_EFER
    rdmsr
    or eax, EFER_SVME
    expect V_GP, 0, wrmsr
    write_msr MSR_VM_CR, 0, 0
    mov ecx, MSR_VM_CR
    xor edx, edx
    mov eax, 0x20
    expect V_GP, 0, wrmsr
    mov ecx, MSR_VM_HSAVE_PA
    mov eax, HOST_SAVE + 8
    expect V_GP, 0, wrmsr
    mov eax, HOST_SAVE
    mov edx, 0x10000            ; 2^48
    expect V_GP, 0, wrmsr
    call set_up_svm
    mov ecx, MSR_VM_CR
    xor edx, edx
    mov eax, VM_CR_SVMDIS
    expect V_GP, 0, wrmsr       ; while EFER.SVME is set
    write_msr MSR_VM_CR, 0, VM_CR_LOCK
    write_msr MSR_VM_CR, 0, 1   ; LOCK stays
    check_msr MSR_VM_CR, 0, VM_CR_LOCK | 1
    write_msr MSR_VM_CR, 0, 0
    check_msr MSR_VM_CR, 0, VM_CR_LOCK
    check_msr MSR_VM_HSAVE_PA, 0, HOST_SAVE

    group "SVM: addresses of control blocks"
    mov eax, VMCB + 8
    expect V_GP, 0, vmrun
    expect V_GP, 0, vmload
    expect V_GP, 0, vmsave
    mov rax, 1 << 48
    expect V_GP, 0, vmrun
    mov rax, (1 << 32) | VMCB   ; with 32-bit addresses only EAX counts
    db 0x67
    vmsave

    group "SVM: round trip"
    mov r8, 0x1122334455667788
    mov qword [SAVE_RAX], 0x1234
    guest_exits EXIT_VMMCALL, lea r9, [rax + 1]
    check_eq r9, 0x1235
    check_q r8, 0x1122334455667788
    check_eq qword [SAVE_RSP], GUEST_STACK_TOP
    check_eq qword [EXITINFO1], 0
    check_d [EXITINTINFO], 0
    mov rbx, rsp
    mov rbp, 0x5555
    guest_exits EXIT_VMMCALL, push rbp
    check_eq rbx, rsp
    check_eq qword [SAVE_RSP], GUEST_STACK_TOP - 8
    check_eq qword [GUEST_STACK_TOP - 8], 0x5555
    stgi

    group "SVM: what #VMEXIT saves"
    fresh_guest
    mov qword [SAVE_RFLAGS], 0x8d7 & ~FLAG_TF
    mov qword [SAVE_RAX], 7
    mov qword [SAVE_CR2], 0x1234567
    jmp .over1
.guest1:
    mov rbx, cr2
    mov rcx, dr6
    mov rdx, dr7
    pushfq
    pop rsi
    mov rdi, cr0
    lea rdi, [rdi]
    mov rax, 0x7fff12345678
    mov cr2, rax
    mov eax, 0x1f
    mov dr6, rax
    mov eax, 0x500
    mov dr7, rax
    mov eax, USER_DATA
    mov es, eax
    mov rax, cr0
    or eax, CR0_AM
    mov cr0, rax
    lidt [.new_table]
    vmmcall
.new_table:
    dw 0x123
    dq 0x456789
.over1:
    run_guest_at .guest1
    check_eq qword [EXITCODE], EXIT_VMMCALL
    check_eq rbx, 0x1234567
    mov r14d, 0xffff0ff0
    check_eq rcx, r14
    check_eq rdx, 0x400
    check_eq rsi, 0x8d7 & ~FLAG_TF
    check_eq qword [SAVE_RFLAGS], FLAG_SF | FLAG_PF | 2
    check_q qword [SAVE_CR2], 0x7fff12345678
    mov r14d, 0xffff0fff
    check_eq qword [SAVE_DR6], r14
    check_eq qword [SAVE_DR7], 0x500
    check_w [SAVE_ES], USER_DATA
    check_w [SAVE_ES + 2], 0xcf3
    mov rax, cr0
    or eax, CR0_AM
    check_eq qword [SAVE_CR0], rax
    check_d [SAVE_IDTR + 4], 0x123
    check_eq qword [SAVE_IDTR + 8], 0x456789
    mov rax, cr0                ; and the host has its own
    and eax, CR0_AM
    check_eq rax, 0
    mov eax, es
    check_eq rax, DATA32
    mov rax, dr7
    check_eq rax, 0x400
    expect V_UD, 0, ud2         ; the host's IDT

    group "SVM: privilege level"
    fresh_guest
    mov byte [SAVE_CPL], 3
    or word [SAVE_SS + 2], 0x60
    or word [SAVE_CS + 2], 0x60
    mov dword [EXCEPTIONS], 1 << V_GP
    guest_exits EXIT_EXCEPTION + V_GP, hlt
    check_eq qword [EXITINFO1], 0
    mov al, [SAVE_CPL]
    movzx eax, al
    check_eq rax, 3
    guest_exits EXIT_VMMCALL, nop   ; VMMCALL at any level

    group "SVM: VMLOAD and VMSAVE"
    ; covers: fields of VMLOAD and VMSAVE
    fresh_guest
    mov edi, OTHER_VMCB
    mov ecx, 0x1000 / 8
    mov rax, 0xa5a5a5a5a5a5a5a5
    rep stosq
    mov eax, OTHER_VMCB
    vmsave
%macro same 2                   ; offset, bytes
    %assign i 0
    %rep (%2) / 8
    mov r14, [VMCB_IMAGE + (%1) + i]
    check_eq qword [OTHER_VMCB + (%1) + i], r14
    %assign i i + 8
    %endrep
%endmacro
    same 0x440, 0x20            ; FS, GS
    same 0x470, 0x10            ; LDTR
    same 0x490, 0x10            ; TR
    same 0x600, 0x40            ; STAR to SYSENTER_EIP
    check_q qword [OTHER_VMCB + 0x5f8], 0xa5a5a5a5a5a5a5a5     ; nothing else
    check_q qword [OTHER_VMCB + 0x480], 0xa5a5a5a5a5a5a5a5
    check_w [OTHER_VMCB + 0x490], TASK
    mov word [OTHER_VMCB + 0x440], USER_DATA
    mov word [OTHER_VMCB + 0x442], 0xcf3
    mov dword [OTHER_VMCB + 0x444], 0x12345
    mov rax, 0x123456789abc
    mov [OTHER_VMCB + 0x448], rax
    mov rax, 0x00008000_00000000    ; VMLOAD makes it canonical
    mov [OTHER_VMCB + 0x620], rax
    mov rax, 0x0011223344556677
    mov [OTHER_VMCB + 0x600], rax
    mov eax, OTHER_VMCB
    vmload
    mov eax, fs
    check_eq rax, USER_DATA
    check_msr MSR_FS_BASE, 0x1234, 0x56789abc
    mov ecx, MSR_KERNEL_GS_BASE
    rdmsr
    mov r14d, 0xffff8000
    check_eq rdx, r14
    check_msr MSR_STAR, 0x112233, 0x44556677
    mov eax, VMCB_IMAGE
    vmload
    check_msr MSR_STAR, 0, 0

    group "SVM: a guest may change what VMRUN does not load"
    fresh_guest
    guest_exits EXIT_VMMCALL, mov rax, 0x77
    check_eq qword [SAVE_RAX], 0x77

    group "SVM: VMRUN within a guest"
    fresh_guest
    guest_exits EXIT(I_VMRUN), vmrun
    admit I_VMMCALL
    mov dword [EXCEPTIONS], 1 << V_UD
    guest_exits EXIT_EXCEPTION + V_UD, nop
    finish
