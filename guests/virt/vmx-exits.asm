; VMX: instructions that leave the guest, always or by a control, with their qualifications and instruction information:
; SDM volume 3, "Instructions That Cause VM Exits" and "Basic VM-Exit Information".
;! cpu=xeon
%include "guest.inc"
%include "vmx.inc"

; Word, control, reason, instruction: it exits while the control is 1, and only then.
%macro by_control 4+.nolist
    fresh_guest
    executed %4
    enable %1, %2
    intercepted %3, %4
%endmacro

%macro set_port_bit 1
    bts dword [IO_BITMAPS + ((%1) / 32) * 4], (%1) % 32
%endmacro
%macro clear_port_bit 1
    btr dword [IO_BITMAPS + ((%1) / 32) * 4], (%1) % 32
%endmacro

main:
    go_long
  use 64
    call set_up_vmx

    group "VMX exits: always"
    intercepted R_CPUID, cpuid
    intercepted R_INVD, invd
    mov rax, cr4
    or eax, CR4_OSXSAVE
    vmw GUEST_CR4, rax
    xor ecx, ecx
    mov eax, 7
    xor edx, edx
    intercepted R_XSETBV, xsetbv
    vmw EXCEPTION_BITMAP, 1 << V_UD
    vmw GUEST_CR4, CR4_PAE | CR4_VMXE
    guest_faults V_UD, 0, xsetbv            ; CR4.OSXSAVE is 0
    guest_faults V_UD, 0, rsm

    group "VMX exits: by a control"
    by_control PRIMARY, PRI_RDTSC, R_RDTSC, rdtsc
    by_control PRIMARY, PRI_RDTSC, R_RDTSCP, rdtscp
    by_control PRIMARY, PRI_INVLPG, R_INVLPG, invlpg [0x1234]
    check_field EXIT_QUALIFICATION, 0x1234
    by_control PRIMARY, PRI_PAUSE, R_PAUSE, pause
    by_control SECONDARY, SEC_WBINVD, R_WBINVD, wbinvd
    by_control SECONDARY, SEC_RDRAND, R_RDRAND, rdrand r9
    check_field EXIT_INSTRUCTION_INFORMATION, (9 << 3) | (2 << 11)
    by_control SECONDARY, SEC_RDSEED, R_RDSEED, rdseed bx
    check_field EXIT_INSTRUCTION_INFORMATION, 3 << 3
    fresh_guest
    enable PRIMARY, PRI_HLT
    intercepted R_HLT, hlt
    fresh_guest
    vmw EXCEPTION_BITMAP, 1 << V_GP
    xor ecx, ecx
    guest_faults V_GP | EVENT_ERROR, 0, rdpmc
    enable PRIMARY, PRI_RDPMC
    intercepted R_RDPMC, rdpmc
    fresh_guest
    enable PRIMARY, PRI_INVLPG
    enable SECONDARY, SEC_INVPCID
    mov ebx, VMX_FREE
    mov ecx, 2
    intercepted R_INVPCID, invpcid rcx, [rbx + 8]
    check_field EXIT_INSTRUCTION_INFORMATION, (2 << 7) | (3 << 15) | (1 << 22) | (3 << 23) | (1 << 28)
    check_field EXIT_QUALIFICATION, 8
    disable PRIMARY, PRI_INVLPG
    mov qword [VMX_FREE + 8], 0
    executed invpcid rcx, [rbx + 8]

    group "VMX exits: instructions that can be taken away"
    fresh_guest
    vmw EXCEPTION_BITMAP, 1 << V_UD
    mov ecx, 2
    guest_faults V_UD, 0, invpcid rcx, [rbx + 8]
    executed rdtscp
    disable SECONDARY, SEC_RDTSCP
    guest_faults V_UD, 0, rdtscp
    mov rax, cr4
    or eax, CR4_OSXSAVE
    vmw GUEST_CR4, rax
    xor eax, eax
    xor edx, edx
    mov ebx, VMX_FREE + 0x100
    guest_faults V_UD, 0, xsaves64 [rbx]
    enable SECONDARY, SEC_XSAVES
    vmw XSS_EXITING_BITMAP, -1
    executed xsaves64 [rbx]

    group "VMX exits: descriptor tables"
    mov qword [VMX_FREE + 0x20], 0x1234
    by_control SECONDARY, SEC_TABLES, R_GLOBAL_TABLES, sgdt [VMX_FREE]
    check_field EXIT_INSTRUCTION_INFORMATION, (2 << 7) | (1 << 11) | (3 << 15) | (1 << 22) | (1 << 27)
    check_field EXIT_QUALIFICATION, VMX_FREE
    by_control SECONDARY, SEC_TABLES, R_GLOBAL_TABLES, sidt [VMX_FREE + 0x10]
    check_field EXIT_INSTRUCTION_INFORMATION, (2 << 7) | (1 << 11) | (3 << 15) | (1 << 22) | (1 << 27) | (1 << 28)
    by_control SECONDARY, SEC_TABLES, R_GLOBAL_TABLES, lgdt [VMX_FREE]
    check_field EXIT_INSTRUCTION_INFORMATION, (2 << 7) | (1 << 11) | (3 << 15) | (1 << 22) | (1 << 27) | (2 << 28)
    by_control SECONDARY, SEC_TABLES, R_GLOBAL_TABLES, lidt [VMX_FREE + 0x10]
    check_field EXIT_INSTRUCTION_INFORMATION, (2 << 7) | (1 << 11) | (3 << 15) | (1 << 22) | (1 << 27) | (3 << 28)
    by_control SECONDARY, SEC_TABLES, R_LOCAL_TABLES, sldt ecx
    check_field EXIT_INSTRUCTION_INFORMATION, (1 << 3) | (1 << 10)
    by_control SECONDARY, SEC_TABLES, R_LOCAL_TABLES, str [rbx]
    check_field EXIT_INSTRUCTION_INFORMATION, (2 << 7) | (3 << 15) | (1 << 22) | (3 << 23) | (1 << 28)
    xor eax, eax
    by_control SECONDARY, SEC_TABLES, R_LOCAL_TABLES, lldt ax
    check_field EXIT_INSTRUCTION_INFORMATION, (1 << 10) | (2 << 28)
    fresh_guest
    enable SECONDARY, SEC_TABLES
    intercepted R_LOCAL_TABLES, ltr dx
    check_field EXIT_INSTRUCTION_INFORMATION, (2 << 3) | (1 << 10) | (3 << 28)

    group "VMX exits: CR0 and CR4"
    fresh_guest
    vmw CR0_MASK, CR0_TS | CR0_NE | CR0_MP
    vmw CR0_READ_SHADOW, CR0_MP
    mov rbx, cr0
    btr rbx, 5
    or ebx, CR0_MP
    executed mov rcx, cr0                   ; NE is hidden, MP is shown
    check_eq rcx, rbx
    executed smsw ecx
    check_eq rcx, rbx
    executed mov cr0, rbx                   ; as shown: nothing happens to what the host owns
    mov rax, cr0
    check_field GUEST_CR0, rax
    mov r9, rbx
    or r9, CR0_TS
    intercepted_with R_CR, (9 << 8), mov cr0, r9
    mov r9, rbx
    btr r9, 1
    intercepted_with R_CR, (9 << 8), mov cr0, r9
    or ebx, CR0_AM                          ; AM is the guest's own
    executed mov cr0, rbx
    mov rax, cr0
    or eax, CR0_AM
    check_field GUEST_CR0, rax
    executed clts                           ; the shadow's TS is 0 already
    vmw CR0_READ_SHADOW, CR0_MP | CR0_TS
    intercepted_with R_CR, 0x20, clts
    mov ecx, 0xa
    executed lmsw cx
    mov ecx, 2
    intercepted_with R_CR, 0x30 | (2 << 16), lmsw cx
    mov word [VMX_FREE], 0x1234
    intercepted_with R_CR, 0x70 | (0x1234 << 16), lmsw [VMX_FREE]
    check_field GUEST_LINEAR_ADDRESS, VMX_FREE
    fresh_guest
    vmw EXCEPTION_BITMAP, 1 << V_GP
    mov rbx, cr0
    btr rbx, 5
    guest_faults V_GP | EVENT_ERROR, 0, mov cr0, rbx    ; NE is fixed
    mov rbx, cr4
    btr rbx, 13
    guest_faults V_GP | EVENT_ERROR, 0, mov cr4, rbx
    vmw CR4_MASK, CR4_VMXE | CR4_PGE
    mov rbx, cr4
    btr rbx, 13
    executed mov rcx, cr4
    check_eq rcx, rbx
    executed mov cr4, rbx
    or ebx, CR4_PGE
    intercepted_with R_CR, 4 | (3 << 8), mov cr4, rbx
    btr rbx, 7
    or ebx, CR4_OSFXSR
    executed mov cr4, rbx
    mov rax, cr4
    or eax, CR4_OSFXSR
    check_field GUEST_CR4, rax

    group "VMX exits: CR3 and CR8"
    ; covers: MISC 18
    fresh_guest
    mov r10, cr3
    executed mov cr3, r10
    executed mov r10, cr3
    enable PRIMARY, PRI_CR3_LOAD
    enable PRIMARY, PRI_CR3_STORE
    intercepted_with R_CR, 3 | (10 << 8), mov cr3, r10
    intercepted_with R_CR, 3 | 0x10 | (11 << 8), mov r11, cr3
    vmw CR3_TARGET2, r10
    vmw CR3_TARGET_COUNT, 2
    intercepted R_CR, mov cr3, r10
    vmw CR3_TARGET_COUNT, 3
    executed mov cr3, r10
    fresh_guest
    mov ebx, 5
    executed mov cr8, rbx
    mov rcx, cr8
    check_eq rcx, 5
    executed mov rdx, cr8
    check_eq rdx, 5
    enable PRIMARY, PRI_CR8_LOAD
    enable PRIMARY, PRI_CR8_STORE
    intercepted_with R_CR, 8 | (3 << 8), mov cr8, rbx
    intercepted_with R_CR, 8 | 0x10 | (2 << 8), mov rdx, cr8
    xor eax, eax
    mov cr8, rax

    group "VMX exits: debug registers"
    by_control PRIMARY, PRI_MOV_DR, R_DR, mov rbx, dr7
    check_field EXIT_QUALIFICATION, 7 | 0x10 | (3 << 8)
    intercepted_with R_DR, 2 | (9 << 8), mov dr2, r9
    vmw GUEST_CR4, CR4_PAE | CR4_VMXE | CR4_DE
    intercepted_with R_DR, 4 | (3 << 8), mov dr4, rbx   ; before #UD
    vmw GUEST_CS_SELECTOR, USER_CODE64
    vmw GUEST_CS_ACCESS_RIGHTS, 0xa0fb
    vmw GUEST_SS_SELECTOR, USER_DATA
    vmw GUEST_SS_ACCESS_RIGHTS, 0xc0f3
    intercepted R_DR, mov rbx, dr0                      ; and before #GP

    group "VMX exits: ports"
    fresh_guest
    mov dx, 0x80
    executed out dx, al
    enable PRIMARY, PRI_IO
    intercepted_with R_IO, 0x800000, out dx, al
    intercepted_with R_IO, 0x800000 | 9, in ax, dx
    intercepted_with R_IO, 0x710000 | 0x40 | 8, in al, 0x71
    intercepted_with R_IO, 0x710000 | 0x40 | 3, out 0x71, eax
    mov edi, VMX_FREE
    mov esi, VMX_FREE + 8
    mov ecx, 4
    intercepted_with R_IO, 0x800000 | 0x10 | 8, insb
    check_field GUEST_LINEAR_ADDRESS, VMX_FREE
    intercepted_with R_IO, 0x800000 | 0x30 | 1, rep outsw
    check_field GUEST_LINEAR_ADDRESS, VMX_FREE + 8
    check_field EXIT_INSTRUCTION_INFORMATION, (2 << 7) | (3 << 15)
    check_eq rcx, 4
    vmw GUEST_FS_BASE, 0x1000
    intercepted_with R_IO, 0x800000 | 0x10 | 3, a32 fs outsd
    check_field GUEST_LINEAR_ADDRESS, VMX_FREE + 0x1008
    check_field EXIT_INSTRUCTION_INFORMATION, (1 << 7) | (4 << 15)
    enable PRIMARY, PRI_IO_BITMAPS
    executed out dx, al                     ; bitmaps go before unconditional exiting
    set_port_bit 0x82
    executed out dx, ax
    intercepted_with R_IO, 0x800000 | 3, out dx, eax
    clear_port_bit 0x82
    set_port_bit 0x8abc
    mov dx, 0x8abc
    intercepted R_IO, in al, dx
    clear_port_bit 0x8abc
    mov dx, 0xffff
    intercepted R_IO, in ax, dx             ; around the end
    executed in al, dx

    group "VMX exits: model-specific registers"
    fresh_guest
    mov ecx, MSR_SYSENTER_EIP
    executed rdmsr
    xor eax, eax
    xor edx, edx
    executed wrmsr
    disable PRIMARY, PRI_MSR_BITMAPS
    intercepted R_RDMSR, rdmsr
    intercepted R_WRMSR, wrmsr
    enable PRIMARY, PRI_MSR_BITMAPS
    bts dword [MSR_BITMAP + (MSR_SYSENTER_EIP / 32) * 4], MSR_SYSENTER_EIP % 32
    intercepted R_RDMSR, rdmsr
    executed wrmsr
    mov dword [MSR_BITMAP + (MSR_SYSENTER_EIP / 32) * 4], 0
    bts dword [MSR_BITMAP + 0x800 + (MSR_SYSENTER_EIP / 32) * 4], MSR_SYSENTER_EIP % 32
    executed rdmsr
    intercepted R_WRMSR, wrmsr
    mov dword [MSR_BITMAP + 0x800 + (MSR_SYSENTER_EIP / 32) * 4], 0
    mov ecx, MSR_LSTAR
    bts dword [MSR_BITMAP + 0x400 + ((MSR_LSTAR & 0x1fff) / 32) * 4], MSR_LSTAR % 32
    intercepted R_RDMSR, rdmsr
    executed wrmsr
    mov dword [MSR_BITMAP + 0x400 + ((MSR_LSTAR & 0x1fff) / 32) * 4], 0
    bts dword [MSR_BITMAP + 0xc00 + ((MSR_LSTAR & 0x1fff) / 32) * 4], MSR_LSTAR % 32
    executed rdmsr
    intercepted R_WRMSR, wrmsr
    mov dword [MSR_BITMAP + 0xc00 + ((MSR_LSTAR & 0x1fff) / 32) * 4], 0
    mov ecx, 0x2000                         ; beyond the bitmaps
    intercepted R_RDMSR, rdmsr
    mov ecx, 0x12345678
    intercepted R_WRMSR, wrmsr

    group "VMX exits: exceptions"
    fresh_guest
    vmw EXCEPTION_BITMAP, (1 << V_UD) | (1 << V_BP) | (1 << V_DB) | (1 << V_GP) | (1 << V_DE) | (1 << V_NP)
    guest_faults V_UD, 0, ud2
    xor ecx, ecx
    guest_faults V_DE, 0, div ecx
    vmw GUEST_GDTR_LIMIT, GDT_END - 1           ; VM exits leave the host's at 0xffff
    mov eax, 0x7ff8
    guest_faults V_GP | EVENT_ERROR, 0, mov fs, eax
    check_field EXIT_INTERRUPTION_ERROR_CODE, 0x7ff8
    check_field GUEST_RFLAGS, FLAG_RF | 2
    jmp .over_bp
.at_bp:
    int3
.after_bp:
    vmcall
.over_bp:
    run_guest_at .at_bp
    check_field EXIT_REASON, R_EXCEPTION
    check_field EXIT_INTERRUPTION_INFORMATION, EVENT_VALID | EVENT_SOFT_EXCEPTION | V_BP
    check_field EXIT_INSTRUCTION_LENGTH, .after_bp - .at_bp
    check_field GUEST_RIP, .at_bp
    jmp .over_db
.at_db:
    int1
    vmcall
.over_db:
    run_guest_at .at_db
    check_field EXIT_REASON, R_EXCEPTION
    check_field EXIT_INTERRUPTION_INFORMATION, EVENT_VALID | EVENT_PRIVILEGED | V_DB
    check_field EXIT_INSTRUCTION_LENGTH, 1
    check_field EXIT_QUALIFICATION, 0
    mov rax, 0xffff0ff0                     ; a single step: DR6 stays as it was
    mov dr6, rax
    vmw GUEST_RFLAGS, 2 | FLAG_TF
    jmp .over_step
.at_step:
    nop
.after_step:
    vmcall
.over_step:
    run_guest_at .at_step
    check_field EXIT_REASON, R_EXCEPTION
    check_field EXIT_INTERRUPTION_INFORMATION, EVENT_VALID | EVENT_EXCEPTION | V_DB
    check_field EXIT_QUALIFICATION, 0x4000
    check_field GUEST_RIP, .after_step
    mov rax, dr6
    mov r14d, 0xffff0ff0
    check_eq rax, r14

    group "VMX exits: page faults"
    mov dword [PAGE_TABLES + 0x5ff8], 0     ; the last 2 MiB below 4 GiB are not there
    mov rax, cr3
    mov cr3, rax
    mov rax, 0x5555
    mov cr2, rax
    mov ebx, 0xfffff123
    fresh_guest
    vmw EXCEPTION_BITMAP, 1 << V_PF
    guest_faults V_PF | EVENT_ERROR, 0, mov al, [rbx]
    check_field EXIT_INTERRUPTION_ERROR_CODE, 0
    check_field EXIT_QUALIFICATION, 0xfffff123
    mov rax, cr2
    check_eq rax, 0x5555
    vmw PAGE_FAULT_ERROR_CODE_MASK, PF_W
    vmw PAGE_FAULT_ERROR_CODE_MATCH, PF_W
    guest_faults V_PF | EVENT_ERROR, PF_W, mov [rbx], al
    check_field EXIT_INTERRUPTION_ERROR_CODE, PF_W
    vmw EXCEPTION_BITMAP, 0                 ; now the other way round
    guest_faults V_PF | EVENT_ERROR, 0, mov al, [rbx]

    group "VMX exits: exceptions while an event is delivered"
    fresh_guest
    vmw GUEST_IDTR_LIMIT, 0x2f              ; three gates
    vmw EXCEPTION_BITMAP, 1 << V_GP
    jmp .over_nested
.at_nested:
    ud2
.over_nested:
    run_guest_at .at_nested
    check_field EXIT_REASON, R_EXCEPTION
    check_field EXIT_INTERRUPTION_INFORMATION, EVENT_VALID | EVENT_EXCEPTION | EVENT_ERROR | V_GP
    check_field EXIT_INTERRUPTION_ERROR_CODE, V_UD * 8 + 3
    check_field IDT_VECTORING_INFORMATION, EVENT_VALID | EVENT_EXCEPTION | V_UD
    jmp .over_software
.at_software:
    int 0x80
.over_software:
    run_guest_at .at_software
    check_field EXIT_REASON, R_EXCEPTION
    check_field EXIT_INTERRUPTION_ERROR_CODE, 0x80 * 8 + 2
    check_field IDT_VECTORING_INFORMATION, EVENT_VALID | EVENT_SOFTWARE | 0x80
    check_field EXIT_INSTRUCTION_LENGTH, 2
    vmw EXCEPTION_BITMAP, 1 << V_DF
    vmw GUEST_GDTR_LIMIT, GDT_END - 1
    mov eax, 0x7ff8
    jmp .over_double
.at_double:
    mov fs, eax
.over_double:
    run_guest_at .at_double
    check_field EXIT_REASON, R_EXCEPTION
    check_field EXIT_INTERRUPTION_INFORMATION, EVENT_VALID | EVENT_EXCEPTION | EVENT_ERROR | V_DF
    check_field IDT_VECTORING_INFORMATION, 0
    vmw EXCEPTION_BITMAP, 0
    run_guest_at .at_double
    check_field EXIT_REASON, R_TRIPLE_FAULT

    group "VMX exits: time stamp counter"
    fresh_guest
    enable PRIMARY, PRI_TSC_OFFSET
    mov rax, 1 << 40
    vmw TSC_OFFSET, rax
    executed rdtsc
    mov r14d, edx
    shr r14d, 8
    check_eq r14, 1
    mov ecx, 0x10
    executed rdmsr
    mov r14d, edx
    shr r14d, 8
    check_eq r14, 1
    enable SECONDARY, SEC_TSC_SCALING
    mov rax, 1 << 47                        ; half as fast
    vmw TSC_MULTIPLIER, rax
    vmw TSC_OFFSET, 0
    executed rdtsc
    mov rbx, rdx
    shl rbx, 32
    or rbx, rax
    rdtsc
    shl rdx, 32
    or rax, rdx
    shr rax, 1
    sub rax, rbx
    cmp rax, 100000
    check_true b

    group "VMX exits: PAUSE loops"
    fresh_guest
    enable SECONDARY, SEC_PAUSE_LOOP
    vmw PLE_GAP, 10000
    vmw PLE_WINDOW, 100000
    jmp .over_loop
.at_loop:
    mov ebx, 100
.far_apart:
    pause
    mov ecx, 2000
    loop $
    dec ebx
    jnz .far_apart
    mov ebx, 1
.close:
    pause
    inc ebx
    jmp .close
.over_loop:
    run_guest_at .at_loop
    check_field EXIT_REASON, R_PAUSE
    cmp ebx, 100
    check_true a
    finish
