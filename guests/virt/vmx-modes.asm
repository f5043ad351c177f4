; VMX: guests in other modes than the host's: real-address mode with "unrestricted guest", protected mode without and with
; paging, PAE with its page-directory pointers, virtual-8086 mode, compatibility mode, changes of mode in the guest.
;! cpu=xeon
%include "guest.inc"
%include "vmx.inc"

EPT_PML4        equ EPT_TABLES
EPT_PDPT        equ EPT_TABLES + 0x1000
EPT_PD          equ EPT_TABLES + 0x2000
EPT_LEAF        equ 0xb7                    ; RWX, write-back, large
GUEST_TABLES    equ VMX_FREE + 0x10000

%macro all_segments 5                       ; selector, base, limit, access rights of data, of code
    %assign i 0
    %rep 6
    vmw GUEST_ES_SELECTOR + i, %1
    vmw GUEST_ES_BASE + i, %2
    vmw GUEST_ES_LIMIT + i, %3
    vmw GUEST_ES_ACCESS_RIGHTS + i, %4
    %assign i i + 2
    %endrep
    vmw GUEST_CS_ACCESS_RIGHTS, %5
%endmacro

main:
    go_long
  use 64
    call set_up_vmx
    call build_ept

    group "VMX modes: real-address mode"
    call unrestricted
    vmw GUEST_CR0, CR0_NE | CR0_ET
    all_segments REAL_SEGMENT, LOAD_ADDRESS, 0xffff, 0x93, 0x9b
    vmw GUEST_RSP, 0x7000
    mov word [VMX_FREE], 0
    run_guest_at at16(real_guest)
    check_field EXIT_REASON, R_VMCALL
    check_d [real_result], 0x1234
    check_d [real_result + 4], REAL_SEGMENT * 16
    check_field GUEST_CS_BASE, LOAD_ADDRESS
    check_field GUEST_DS_SELECTOR, 0x2000
    check_field GUEST_DS_BASE, 0x20000
    check_field GUEST_DS_LIMIT, 0xffff
    vmw EXCEPTION_BITMAP, 1 << V_GP
    run_guest_at at16(real_fault)
    check_field EXIT_REASON, R_EXCEPTION    ; no error code in real-address mode
    check_field EXIT_INTERRUPTION_INFORMATION, EVENT_VALID | EVENT_EXCEPTION | V_GP
    vmw EXCEPTION_BITMAP, 0
    vmw ENTRY_INTERRUPTION_INFORMATION, EVENT_VALID | EVENT_SOFTWARE | 0x60
    vmw ENTRY_INSTRUCTION_LENGTH, 2
    vmw GUEST_IDTR_BASE, VMX_FREE
    vmw GUEST_IDTR_LIMIT, 0x3ff
    vmw GUEST_DS_SELECTOR, REAL_SEGMENT
    vmw GUEST_DS_BASE, LOAD_ADDRESS
    mov word [VMX_FREE + 0x60 * 4], at16(real_handler)
    mov word [VMX_FREE + 0x60 * 4 + 2], REAL_SEGMENT
    vmw GUEST_RSP, 0x7000
    run_guest_at at16(real_guest)
    check_field EXIT_REASON, R_VMCALL
    check_field GUEST_RSP, 0x7000 - 6
    movzx r14d, word [LOAD_ADDRESS + 0x7000 - 6]
    check_eq r14, at16(real_guest) + 2
    check_d [real_result], 0x4321

    group "VMX modes: from real-address mode to 64-bit mode in the guest"
    ; covers: MISC 5
    call unrestricted
    vmw GUEST_CR0, CR0_NE | CR0_ET
    all_segments REAL_SEGMENT, LOAD_ADDRESS, 0xffff, 0x93, 0x9b
    vmw GUEST_CR4, CR4_VMXE
    vmw GUEST_GDTR_BASE, gdt
    enable ENTRY, ENTRY_LOAD_EFER
    enable EXIT, EXIT_LOAD_EFER
    enable EXIT, EXIT_SAVE_EFER
    vmw GUEST_EFER, 0
    vmw GUEST_RSP, 0x7000
    run_guest_at at16(climb)
    check_field EXIT_REASON, R_VMCALL
    check_q rax, 0x123456789
    check_field GUEST_EFER, EFER_LME | EFER_LMA
    vmr rax, ENTRY_CONTROLS                 ; the control follows EFER.LMA
    bt eax, ENTRY_LONG
    check_true c
    check_field GUEST_CS_ACCESS_RIGHTS, 0xa09b
    vmr rax, GUEST_RIP
    add rax, 3
    vmw GUEST_RIP, rax
    call run_guest                          ; and it goes on from there
    check_field EXIT_REASON, R_CPUID

    group "VMX modes: protected mode"
    call unrestricted
    call flat_segments
    vmw GUEST_CR0, CR0_NE | CR0_ET | CR0_PE
    run_guest_at flat_guest
    check_field EXIT_REASON, R_VMCALL
    check_eq rbx, 0x5678

    group "VMX modes: paging of 32 bits"
    call unrestricted
    call flat_segments
    call build_legacy
    vmw GUEST_CR0, CR0_NE | CR0_ET | CR0_PE | CR0_PG
    vmw GUEST_CR3, GUEST_TABLES
    vmw GUEST_CR4, CR4_VMXE | CR4_PSE
    mov dword [HIGH_SCRATCH + 0x40000], 0x9abc
    run_guest_at paged_guest
    check_field EXIT_REASON, R_VMCALL
    check_eq rbx, 0x9abc
    ; without EPT, and without "unrestricted guest"
    fresh_guest
    disable ENTRY, ENTRY_LONG
    call flat_segments
    vmw GUEST_EFER, 0
    vmw GUEST_CR0, CR0_NE | CR0_ET | CR0_PE | CR0_PG
    vmw GUEST_CR3, GUEST_TABLES
    vmw GUEST_CR4, CR4_VMXE | CR4_PSE
    xor ebx, ebx
    run_guest_at paged_guest
    check_field EXIT_REASON, R_VMCALL
    check_eq rbx, 0x9abc

    group "VMX modes: PAE"
    call build_pae
    call unrestricted
    call flat_segments
    vmw GUEST_CR0, CR0_NE | CR0_ET | CR0_PE | CR0_PG
    vmw GUEST_CR3, GUEST_TABLES + 0x20      ; with EPT the pointers are the VMCS's
    vmw GUEST_CR4, CR4_VMXE | CR4_PAE
    vmw GUEST_PDPTE0, (GUEST_TABLES + 0x1000) | 1
    vmw GUEST_PDPTE1, 0
    vmw GUEST_PDPTE2, 0
    vmw GUEST_PDPTE3, (GUEST_TABLES + 0x1000) | 1
    xor ebx, ebx
    run_guest_at paged_guest
    check_field EXIT_REASON, R_VMCALL
    check_eq rbx, 0x9abc
    check_field GUEST_PDPTE3, (GUEST_TABLES + 0x1000) | 1
    run_guest_at pae_reload                 ; CR3 is loaded: the pointers come from memory
    check_field EXIT_REASON, R_VMCALL
    check_field GUEST_PDPTE3, 0
    check_field GUEST_PDPTE0, (GUEST_TABLES + 0x1000) | 1
    vmw GUEST_PDPTE0, (GUEST_TABLES + 0x1000) | 3
    entry_exits R_GUEST_STATE, 2
    vmw GUEST_PDPTE0, (GUEST_TABLES + 0x1000) | 1
    mov qword [EPT_PD + 3 * 8], 0
    run_guest_at pae_far                    ; the pointers cannot be read
    check_field EXIT_REASON, R_EPT_VIOLATION
    vmr rax, EXIT_QUALIFICATION
    and eax, 0x187
    check_eq rax, 1                         ; no linear address
    check_field GUEST_PHYSICAL_ADDRESS, 0x600020
    check_field GUEST_RIP, pae_far.load
    mov qword [EPT_PD + 3 * 8], 0x600000 | EPT_LEAF
    mov ecx, 2
    invept rcx, [none]
    fresh_guest                             ; without EPT: from memory
    disable ENTRY, ENTRY_LONG
    call flat_segments
    vmw GUEST_EFER, 0
    vmw GUEST_CR0, CR0_NE | CR0_ET | CR0_PE | CR0_PG
    vmw GUEST_CR3, GUEST_TABLES
    vmw GUEST_CR4, CR4_VMXE | CR4_PAE
    xor ebx, ebx
    run_guest_at paged_guest
    check_field EXIT_REASON, R_VMCALL
    check_eq rbx, 0x9abc
    ; with PAE paging and no EPT, reserved bits of the entries that CR3 leads to are 0
    or dword [GUEST_TABLES + 8], 3
    entry_exits R_GUEST_STATE, 2
    mov qword [GUEST_TABLES + 8], 0

    group "VMX modes: virtual-8086 mode"
    fresh_guest
    disable ENTRY, ENTRY_LONG
    vmw GUEST_EFER, 0
    vmw GUEST_CR0, CR0_NE | CR0_ET | CR0_PE | CR0_PG
    vmw GUEST_CR3, GUEST_TABLES
    vmw GUEST_CR4, CR4_VMXE | CR4_PAE
    all_segments REAL_SEGMENT, LOAD_ADDRESS, 0xffff, 0xf3, 0xf3
    vmw GUEST_RFLAGS, 2 | FLAG_VM | FLAG_IOPL
    vmw GUEST_RSP, 0x7000
    run_guest_at at16(real_guest)
    check_field EXIT_REASON, R_VMCALL
    check_d [real_result], 0x1234
    check_field GUEST_DS_BASE, 0x20000
    check_field GUEST_DS_ACCESS_RIGHTS, 0xf3
    vmr rax, GUEST_RFLAGS
    bt eax, 17
    check_true c

    group "VMX modes: compatibility mode"
    fresh_guest
    vmw GUEST_CS_SELECTOR, CODE32
    vmw GUEST_CS_ACCESS_RIGHTS, 0xc09b
    xor ebx, ebx
    run_guest_at flat_guest
    check_field EXIT_REASON, R_VMCALL
    check_eq rbx, 0x5678
    vmw EXCEPTION_BITMAP, 1 << V_UD
    run_guest_at compatibility_guest        ; VMX instructions do not exist there
    check_field EXIT_REASON, R_EXCEPTION
    check_field EXIT_INTERRUPTION_INFORMATION, EVENT_VALID | EVENT_EXCEPTION | V_UD

    group "VMX modes: a task switch"
    fresh_guest
    disable ENTRY, ENTRY_LONG
    call flat_segments
    vmw GUEST_EFER, 0
    vmw GUEST_CR0, CR0_NE | CR0_ET | CR0_PE | CR0_PG
    vmw GUEST_CR3, GUEST_TABLES
    vmw GUEST_CR4, CR4_VMXE | CR4_PAE
    set_descriptor GDT_FREE, 0, 0x67, ACCESS_TSS32, FLAGS_BYTES32
    vmw GUEST_GDTR_BASE, gdt
    vmw GUEST_GDTR_LIMIT, GDT_END - 1
    run_guest_at task_jump
    check_field EXIT_REASON, R_TASK_SWITCH
    check_field EXIT_QUALIFICATION, GDT_FREE | (2 << 30)
    check_field EXIT_INSTRUCTION_LENGTH, 7
    check_field GUEST_RIP, task_jump
    run_guest_at task_call
    check_field EXIT_QUALIFICATION, GDT_FREE
    vmw GUEST_IDTR_BASE, VMX_FREE
    vmw GUEST_IDTR_LIMIT, 0x7ff
    mov qword [VMX_FREE + V_UD * 8], GDT_FREE << 16
    mov dword [VMX_FREE + V_UD * 8 + 4], ACCESS_TASK_GATE << 8
    run_guest_at task_fault
    check_field EXIT_REASON, R_TASK_SWITCH
    check_field EXIT_QUALIFICATION, GDT_FREE | (3 << 30)
    check_field IDT_VECTORING_INFORMATION, EVENT_VALID | EVENT_EXCEPTION | V_UD
    check_field GUEST_RIP, task_fault
    finish

; The first 4 GiB by 2 MiB pages are enough: everything is below 1 GiB.
build_ept:
    mov edi, EPT_TABLES
    mov ecx, 0x3000 / 8
    xor eax, eax
    rep stosq
    mov qword [EPT_PML4], EPT_PDPT | 7
    mov qword [EPT_PDPT], EPT_PD | 7
    mov eax, EPT_LEAF
    xor ecx, ecx
.next:
    mov [EPT_PD + rcx * 8], rax
    add rax, 0x200000
    inc ecx
    cmp ecx, 512
    jb .next
    ret

unrestricted:
    fresh_guest
    enable SECONDARY, SEC_EPT
    enable SECONDARY, SEC_UNRESTRICTED
    disable ENTRY, ENTRY_LONG
    vmw EPT_POINTER, EPT_PML4 | 0x1e
    vmw GUEST_CR4, CR4_VMXE
    vmw GUEST_EFER, 0
    ret

flat_segments:
    vmw GUEST_CS_SELECTOR, CODE32
    vmw GUEST_CS_ACCESS_RIGHTS, 0xc09b
    ret

; 4 MiB pages, the first at 0 and again at 3 GiB.
build_legacy:
    mov edi, GUEST_TABLES
    mov ecx, 0x400
    mov eax, PTE_P | PTE_W | PTE_U | PTE_PS
.next:
    mov [rdi], eax
    add edi, 4
    add eax, 0x400000
    loop .next
    mov dword [GUEST_TABLES + 0x300 * 4], PTE_P | PTE_W | PTE_U | PTE_PS
    ret

; The first GiB.
build_pae:
    mov edi, GUEST_TABLES
    mov ecx, 0x1000 / 8
    xor eax, eax
    rep stosq
    mov qword [GUEST_TABLES], (GUEST_TABLES + 0x1000) | 1
    mov qword [GUEST_TABLES + 0x20], (GUEST_TABLES + 0x1000) | 1
    mov qword [GUEST_TABLES + 0x18], (GUEST_TABLES + 0x1000) | 1
    mov edi, GUEST_TABLES + 0x1000
    mov eax, PTE_P | PTE_W | PTE_U | PTE_PS
    mov ecx, 512
.next:
    mov [rdi], rax
    add edi, 8
    add rax, 0x200000
    loop .next
    ret

align 16
none: dq 0, 0
real_result: dd 0, 0

  use 16
real_guest:
    mov dword [at16(real_result)], 0x1234
    mov ax, cs
    movzx eax, ax
    shl eax, 4
    mov [at16(real_result) + 4], eax
    mov ax, 0x2000
    mov ds, ax
    vmcall
real_fault:
    mov eax, [dword 0x10000]
    vmcall
real_handler:
    mov dword [at16(real_result)], 0x4321
    vmcall

; To 64-bit mode in one go, as firmware's successors do.
climb:
    lgdt [at16(.pointer)]
    mov eax, cr4
    or eax, CR4_PAE
    mov cr4, eax
    mov eax, PAGE_TABLES
    mov cr3, eax
    mov ecx, MSR_EFER
    mov eax, EFER_LME
    xor edx, edx
    wrmsr
    mov eax, cr0
    or eax, CR0_PE | CR0_PG
    mov cr0, eax
    jmp dword CODE64:.long
.pointer:
    dw GDT_END - 1
    dd gdt
  use 64
.long:
    mov rax, 0x123456789
    vmcall
    cpuid

  use 32
flat_guest:
    mov ebx, 0x5678
    vmcall
paged_guest:
    mov ebx, [0xc0240000]
    vmcall
pae_reload:
    mov eax, GUEST_TABLES + 0x20
    mov cr3, eax
    vmcall
pae_far:
    mov eax, 0x600020
.load:
    mov cr3, eax
    vmcall
compatibility_guest:
    vmxoff
task_jump:
    jmp GDT_FREE:0
task_call:
    call GDT_FREE:0
task_fault:
    ud2
