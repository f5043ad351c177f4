; VMX: CPUID, IA32_FEATURE_CONTROL, capability registers, VMX operation, VMCSs and their fields, what VM entry loads and VM
; exits save: SDM volume 3, "Introduction to Virtual Machine Extensions" and "Virtual Machine Control Structures".
;! cpu=xeon,virtualization=unlocked
%include "guest.inc"
%include "vmx.inc"

; Instruction that needs VMX operation: #UD outside of it.
%macro needs_operation 1+
    expect V_UD, 0, %1
%endmacro

main:
    go_long
  use 64
    group "VMX: CPUID and IA32_FEATURE_CONTROL"
    ; covers: MSR 0x3a, virtualization=unlocked
    mov eax, 1
    cpuid
    bt ecx, 5
    check_true c
    check_msr MSR_FEATURE_CONTROL, 0, 0
    mov rax, cr4
    check_eq rax, CR4_PAE
    expect V_UD, 0, vmxon [pointer_vmxon]       ; CR4.VMXE is 0
    or eax, CR4_VMXE
    mov cr4, rax
    mov rbx, cr0
    or ebx, CR0_NE
    mov cr0, rbx
    expect V_GP, 0, vmxon [pointer_vmxon]       ; not locked
    mov ecx, MSR_FEATURE_CONTROL
    xor edx, edx
    mov eax, 0x8
    expect V_GP, 0, wrmsr
    write_msr MSR_FEATURE_CONTROL, 0, 4
    expect V_GP, 0, vmxon [pointer_vmxon]
    write_msr MSR_FEATURE_CONTROL, 0, 5
    mov eax, 1
    expect V_GP, 0, wrmsr                       ; locked
    user_expect V_GP, 0, vmxon [pointer_vmxon]
    mov rax, cr0
    and eax, ~CR0_NE
    mov cr0, rax
    expect V_GP, 0, vmxon [pointer_vmxon]       ; CR0.NE is fixed to 1
    or eax, CR0_NE
    mov cr0, rax

    group "VMX: capability registers"
    mov ecx, MSR_VMX
    rdmsr
    bt eax, 31
    check_true nc
    check_eq rdx, 0x00d81000                    ; 4 KiB, write-back, INS and OUTS described, TRUE registers
    xor r9d, r9d
    mov ecx, 0x481                              ; what must be 1 may be 1
.controls:
    rdmsr
    not edx
    test eax, edx
    check_true z
    inc ecx
    cmp ecx, 0x484
    jbe .controls
    mov ecx, 0x486
    rdmsr
    mov r8d, eax
    mov r14d, 0x80000021
    check_eq r8, r14
    mov ecx, 0x489
    rdmsr
    bt eax, 13
    check_true c
    mov ecx, 0x480
    expect V_GP, 0, wrmsr

    group "VMX: instructions outside of VMX operation"
    needs_operation vmxoff
    needs_operation vmclear [pointer_vmcs]
    needs_operation vmptrld [pointer_vmcs]
    needs_operation vmptrst [pointer_vmcs]
    needs_operation vmread rax, rax
    needs_operation vmwrite rax, rax
    needs_operation vmlaunch
    needs_operation vmresume
    needs_operation vmcall
    needs_operation vmfunc
    needs_operation invept rax, [pointer_vmcs]
    needs_operation invvpid rax, [pointer_vmcs]

    group "VMX: VMXON and VMXOFF"
    mov ecx, MSR_VMX
    rdmsr
    mov [VMXON_REGION], eax
    xor dword [VMXON_REGION], 1
    fails_invalid vmxon [pointer_vmxon]         ; another revision
    xor dword [VMXON_REGION], 1 | 0x80000000
    fails_invalid vmxon [pointer_vmxon]
    xor dword [VMXON_REGION], 0x80000000
    mov qword [VMX_FREE], VMXON_REGION + 8
    fails_invalid vmxon [VMX_FREE]
    mov rax, (1 << 46) | VMXON_REGION
    mov [VMX_FREE], rax
    fails_invalid vmxon [VMX_FREE]
    call set_up_vmx
    fails E_VMXON, vmxon [pointer_vmxon]
    user_expect V_GP, 0, vmxoff
    user_expect V_GP, 0, vmread rax, rax
    mov rax, cr4
    btr rax, 13
    expect V_GP, 0, mov cr4, rax                ; fixed in VMX operation
    mov rax, cr0
    btr rax, 5
    expect V_GP, 0, mov cr0, rax
    expect V_UD, 0, vmfunc
    succeeds vmxoff
    needs_operation vmxoff
    mov rax, cr0
    btr rax, 5
    mov cr0, rax
    call set_up_vmx

    group "VMX: pointers"
    mov qword [VMX_FREE], VMCS + 8
    mov qword [VMX_FREE + 8], VMXON_REGION
    fails E_VMCLEAR_ADDRESS, vmclear [VMX_FREE]
    fails E_VMCLEAR_VMXON, vmclear [VMX_FREE + 8]
    fails E_VMPTRLD_ADDRESS, vmptrld [VMX_FREE]
    fails E_VMPTRLD_VMXON, vmptrld [VMX_FREE + 8]
    mov qword [VMX_FREE + 16], VMX_FREE + 0x1000
    fails E_REVISION, vmptrld [VMX_FREE + 16]
    succeeds vmptrst [VMX_FREE + 24]
    check_eq qword [VMX_FREE + 24], VMCS
    succeeds vmclear [pointer_vmcs]
    vmptrst [VMX_FREE + 24]
    check_eq qword [VMX_FREE + 24], -1
    fails_invalid vmread rax, rax
    fails_invalid vmwrite rax, rax
    fails_invalid vmlaunch
    fails_invalid vmcall
    vmptrld [pointer_vmcs]
    fails E_VMCALL, vmcall

    group "VMX: fields"
    ; covers: MISC 29
    mov r9, 0x123456789abcdef0
    vmw GUEST_RIP, r9
    check_field GUEST_RIP, r9
    vmw TSC_OFFSET, r9
    check_field TSC_OFFSET, r9
    check_field TSC_OFFSET + 1, 0x12345678
    mov eax, 0x87654321
    vmw TSC_OFFSET + 1, rax
    check_q r9, 0x123456789abcdef0
    check_field TSC_OFFSET, 0x876543219abcdef0
    vmw EXCEPTION_BITMAP, r9                    ; 32 bits
    check_field EXCEPTION_BITMAP, 0x9abcdef0
    vmw GUEST_CS_SELECTOR, r9                   ; 16 bits
    check_field GUEST_CS_SELECTOR, 0xdef0
    vmw EXIT_QUALIFICATION, r9                  ; read-only data can be written
    check_field EXIT_QUALIFICATION, r9
    mov r12d, GUEST_RIP                         ; memory operands
    mov qword [VMX_FREE], 0x7777
    succeeds vmwrite r12, [VMX_FREE]
    mov qword [VMX_FREE], 0
    succeeds vmread [VMX_FREE], r12
    check_eq qword [VMX_FREE], 0x7777
    mov r12d, 0x6c1e
    fails E_FIELD, vmread r13, r12
    mov r12d, GUEST_RIP + 1                     ; no upper half
    fails E_FIELD, vmwrite r12, r13
    mov r12, (1 << 32) | GUEST_RIP
    fails E_FIELD, vmread r13, r12
    mov r12d, 0x2818                            ; what is not offered has no fields
    fails E_FIELD, vmread r13, r12

    group "VMX: each VMCS has its own data"
    vmclear [pointer_other]
    vmptrld [pointer_other]
    vmw GUEST_RIP, 0x1111
    vmptrld [pointer_vmcs]
    check_field GUEST_RIP, 0x7777
    vmclear [pointer_other]
    vmclear [pointer_vmcs]
    vmptrld [pointer_other]
    check_field GUEST_RIP, 0x1111
    vmclear [pointer_other]

    group "VMX: launch state"
    fresh_guest
    vmw GUEST_RIP, .exit
    fails E_NOT_LAUNCHED, vmresume
    jmp .over
.exit:
    vmcall
.over:
    call run_guest
    check_field EXIT_REASON, R_VMCALL
    fails E_LAUNCHED, vmlaunch
    vmclear [pointer_vmcs]
    vmptrld [pointer_vmcs]
    fails E_NOT_LAUNCHED, vmresume
    mov eax, ss
    mov ss, eax
    vmlaunch
    pushfq
    pop r14
    and r14d, FLAG_CF | FLAG_ZF
    check_eq r14, FLAG_ZF
    check_field INSTRUCTION_ERROR, E_MOV_SS
    mov byte [is_launched], 0

    group "VMX: round trip"
    mov r8, 0x1122334455667788
    mov eax, 0x1234
    guest_exits R_VMCALL, lea r9, [rax + 1]
    check_eq r9, 0x1235
    check_q r8, 0x1122334455667788
    check_field GUEST_RSP, GUEST_STACK_TOP
    check_field EXIT_QUALIFICATION, 0
    check_field EXIT_INSTRUCTION_LENGTH, 3
    mov rbx, rsp
    mov rbp, 0x5555
    guest_exits R_VMCALL, push rbp
    check_eq rbx, rsp
    check_field GUEST_RSP, GUEST_STACK_TOP - 8
    check_eq qword [GUEST_STACK_TOP - 8], 0x5555

    group "VMX: what VM entry loads and VM exits save"
    fresh_guest
    vmw GUEST_RFLAGS, 0x8d7 & ~FLAG_TF
    vmw GUEST_DR7, 0x500
    vmw GUEST_SYSENTER_CS, 0x33
    vmw GUEST_SYSENTER_ESP, 0x4444
    vmw GUEST_SYSENTER_EIP, 0x5555
    vmw GUEST_FS_BASE, 0x123456
    vmw GUEST_PAT, 0x0007040600070401
    enable EXIT, EXIT_SAVE_DEBUG
    enable EXIT, EXIT_SAVE_PAT
    enable EXIT, EXIT_LOAD_PAT
    enable EXIT, EXIT_SAVE_EFER
    enable EXIT, EXIT_LOAD_EFER
    enable ENTRY, ENTRY_LOAD_DEBUG
    enable ENTRY, ENTRY_LOAD_PAT
    enable ENTRY, ENTRY_LOAD_EFER
    jmp .over1
.guest1:
    pushfq
    pop rsi
    mov rdi, dr7
    mov ecx, MSR_SYSENTER_CS
    rdmsr
    mov r8d, eax
    mov ecx, MSR_PAT
    rdmsr
    mov r9d, eax
    mov ecx, MSR_FS_BASE
    rdmsr
    mov r10d, eax
    add eax, 1
    wrmsr
    write_msr MSR_SYSENTER_EIP, 0, 0x6666
    write_msr MSR_PAT, 0x00070406, 0x00070404
    mov eax, 0x401
    mov dr7, rax
    mov eax, USER_DATA
    mov es, eax
    mov rax, cr0
    or eax, CR0_AM
    mov cr0, rax
    mov rax, cr4
    or eax, CR4_OSFXSR
    mov cr4, rax
    lidt [.new_table]
    mov ecx, MSR_EFER
    rdmsr
    btr eax, 0
    wrmsr
    stc
    vmcall
.new_table:
    dw 0x123
    dq 0x456789
.over1:
    run_guest_at .guest1
    check_field EXIT_REASON, R_VMCALL
    check_eq rsi, 0x8d7 & ~FLAG_TF
    check_eq rdi, 0x500
    check_eq r8, 0x33
    mov r14d, 0x00070401
    check_eq r9, r14
    check_eq r10, 0x123456
    check_field GUEST_FS_BASE, 0x123457
    check_field GUEST_SYSENTER_EIP, 0x6666
    check_field GUEST_PAT, 0x0007040600070404
    check_field GUEST_DR7, 0x401
    check_field GUEST_ES_SELECTOR, USER_DATA
    check_field GUEST_ES_ACCESS_RIGHTS, 0xc0f3
    mov rax, cr0
    or eax, CR0_AM
    check_field GUEST_CR0, rax
    mov rax, cr4
    or eax, CR4_OSFXSR
    check_field GUEST_CR4, rax
    check_field GUEST_IDTR_LIMIT, 0x123
    check_field GUEST_IDTR_BASE, 0x456789
    mov ecx, MSR_EFER
    rdmsr
    mov ebx, eax
    btr eax, 0
    check_field GUEST_EFER, rax
    ; and the host has its own
    bt ebx, 0
    check_true c
    mov rax, cr0
    and eax, CR0_AM
    check_eq rax, 0
    mov eax, es
    check_eq rax, DATA32
    mov rax, dr7
    check_eq rax, 0x400
    check_msr MSR_SYSENTER_CS, 0, 0
    check_msr MSR_FS_BASE, 0, 0
    check_msr MSR_PAT, 0x00070406, 0x00070406
    expect V_UD, 0, ud2
    pushfq
    pop rax
    and eax, FLAG_CF
    check_eq rax, 0

    group "VMX: entries that fail"
    fresh_guest
    vmw CR3_TARGET_COUNT, 5
    entry_fails E_CONTROLS
    fresh_guest
    vmw HOST_TR_SELECTOR, 0
    entry_fails E_HOST
    fresh_guest
    vmw GUEST_RFLAGS, 0
    entry_exits R_GUEST_STATE, 0
    fails E_NOT_LAUNCHED, vmresume
    vmw GUEST_RFLAGS, 2
    vmw VMCS_LINK_POINTER, 8
    entry_exits R_GUEST_STATE, 4
    vmw VMCS_LINK_POINTER, -1
    guest_exits R_VMCALL, nop

    group "VMX: MSR lists"
    fresh_guest
    mov dword [MSR_AREA], MSR_SYSENTER_EIP
    mov dword [MSR_AREA + 8], 0x9999
    mov dword [MSR_AREA + 16], MSR_KERNEL_GS_BASE
    mov dword [MSR_AREA + 24], 0xaaaa
    vmw ENTRY_MSR_LOAD_ADDRESS, MSR_AREA
    vmw ENTRY_MSR_LOAD_COUNT, 2
    mov dword [MSR_AREA + 0x100], MSR_KERNEL_GS_BASE
    vmw EXIT_MSR_STORE_ADDRESS, MSR_AREA + 0x100
    vmw EXIT_MSR_STORE_COUNT, 1
    mov dword [MSR_AREA + 0x200], MSR_KERNEL_GS_BASE
    mov dword [MSR_AREA + 0x208], 0xcccc
    vmw EXIT_MSR_LOAD_ADDRESS, MSR_AREA + 0x200
    vmw EXIT_MSR_LOAD_COUNT, 1
    jmp .over2
.guest2:
    mov ecx, MSR_SYSENTER_EIP
    rdmsr
    mov ebx, eax
    mov ecx, MSR_KERNEL_GS_BASE
    rdmsr
    inc eax
    wrmsr
    vmcall
.over2:
    ; covers: staying instead of exit 34
    run_guest_at .guest2
    check_field EXIT_REASON, R_VMCALL
    check_eq rbx, 0x9999
    check_eq qword [MSR_AREA + 0x108], 0xaaab
    check_msr MSR_KERNEL_GS_BASE, 0, 0xcccc
    mov dword [MSR_AREA + 16], MSR_FS_BASE      ; has a field of its own
    entry_exits R_MSR_LOADING, 2
    mov dword [MSR_AREA + 16], 0x12345678
    entry_exits R_MSR_LOADING, 2
    mov dword [MSR_AREA + 20], 1
    entry_exits R_MSR_LOADING, 2

    group "VMX: VMX instructions in a guest"
    fresh_guest
    intercepted R_VMCALL, vmcall
    intercepted R_VMLAUNCH, vmlaunch
    intercepted R_VMRESUME, vmresume
    intercepted R_VMXOFF, vmxoff
    mov ebx, VMX_FREE
    intercepted R_VMCLEAR, vmclear [rbx]
    check_field EXIT_INSTRUCTION_INFORMATION, (2 << 7) | (3 << 15) | (1 << 22) | (3 << 23)
    check_field EXIT_QUALIFICATION, 0
    intercepted R_VMPTRLD, vmptrld [rbx + rcx * 4 + 0x12345]
    check_field EXIT_INSTRUCTION_INFORMATION, 2 | (2 << 7) | (3 << 15) | (1 << 18) | (3 << 23)
    check_field EXIT_QUALIFICATION, 0x12345
    intercepted R_VMPTRST, vmptrst [ebp - 8]
    check_field EXIT_INSTRUCTION_INFORMATION, (1 << 7) | (2 << 15) | (1 << 22) | (5 << 23)
    check_field EXIT_QUALIFICATION, -8
    intercepted R_VMXON, vmxon [fs:0x4000]
    check_field EXIT_INSTRUCTION_INFORMATION, (2 << 7) | (4 << 15) | (1 << 22) | (1 << 27)
    check_field EXIT_QUALIFICATION, 0x4000
    intercepted R_VMREAD, vmread [rbx], r9
    check_field EXIT_INSTRUCTION_INFORMATION, (2 << 7) | (3 << 15) | (1 << 22) | (3 << 23) | (9 << 28)
    intercepted R_VMREAD, vmread r10, r9
    check_field EXIT_INSTRUCTION_INFORMATION, (10 << 3) | (1 << 10) | (9 << 28)
    intercepted R_VMWRITE, vmwrite r10, r9
    check_field EXIT_INSTRUCTION_INFORMATION, (9 << 3) | (1 << 10) | (10 << 28)
    intercepted R_INVEPT, invept rsi, [rbx]
    check_field EXIT_INSTRUCTION_INFORMATION, (2 << 7) | (3 << 15) | (1 << 22) | (3 << 23) | (6 << 28)
    intercepted R_INVVPID, invvpid rsi, [rbx]
    vmw EXCEPTION_BITMAP, 1 << V_UD
    guest_faults V_UD, 0, vmfunc

    group "VMX: privilege level"
    fresh_guest
    vmw GUEST_CS_SELECTOR, USER_CODE64
    vmw GUEST_CS_ACCESS_RIGHTS, 0xa0fb
    vmw GUEST_SS_SELECTOR, USER_DATA
    vmw GUEST_SS_ACCESS_RIGHTS, 0xc0f3
    vmw EXCEPTION_BITMAP, 1 << V_GP
    guest_faults V_GP | EVENT_ERROR, 0, hlt
    check_field EXIT_INTERRUPTION_ERROR_CODE, 0
    guest_exits R_VMCALL, nop
    intercepted R_VMLAUNCH, vmlaunch
    finish
