; VMX: a guest that runs for a while, with EPT, a VPID, a TPR shadow, virtual interrupts, the preemption timer and bits of CR0
; that are the hypervisor's: what it is saved and restored with has to be all of it.
;! cpu=xeon
%include "guest.inc"
%include "vmx.inc"

EPT_PML4        equ EPT_TABLES
EPT_PDPT        equ EPT_TABLES + 0x1000
EPT_PD          equ EPT_TABLES + 0x2000
COUNTER_GPA     equ 0xa00000                ; maps to the 2 MiB from 0xc00000 on
COUNTER         equ 0xc00000
ROUNDS          equ 3000

main:
    go_long
  use 64
    call set_up_vmx
    mov edi, EPT_TABLES
    mov ecx, 0x3000 / 8
    xor eax, eax
    rep stosq
    mov qword [EPT_PML4], EPT_PDPT | 7
    mov qword [EPT_PDPT], EPT_PD | 7
    mov eax, 0xb7
    xor ecx, ecx
.next:
    mov [EPT_PD + rcx * 8], rax
    add rax, 0x200000
    inc ecx
    cmp ecx, 512
    jb .next
    mov qword [EPT_PD + (COUNTER_GPA / 0x200000) * 8], COUNTER | 0xb7
    mov qword [COUNTER], 0

    group "VMX: a guest that runs for a while"
    enable SECONDARY, SEC_EPT
    enable SECONDARY, SEC_VPID
    enable PRIMARY, PRI_TPR_SHADOW
    enable PIN, PIN_EXTERNAL
    enable SECONDARY, SEC_INTERRUPTS
    enable PIN, PIN_TIMER
    enable EXIT, EXIT_SAVE_TIMER
    enable PRIMARY, PRI_TSC_OFFSET
    vmw EPT_POINTER, EPT_PML4 | 0x1e
    vmw CR0_MASK, CR0_AM
    vmw CR0_READ_SHADOW, CR0_AM
    vmw PREEMPTION_TIMER_VALUE, 500
    mov rax, 1 << 50
    vmw TSC_OFFSET, rax
    vmw GUEST_INTERRUPT_STATUS, 0
    mov dword [VIRTUAL_APIC + 0x80], 0x50
    vmw GUEST_RIP, guest
    xor ebx, ebx                            ; rounds
    xor ebp, ebp                            ; timer exits
    xor r8d, r8d                            ; what the guest finds wrong
    xor r9d, r9d                            ; CPUID exits
    mov r10, 1
.again:
    call run_guest
    vmr r11, EXIT_REASON
    cmp r11d, R_TIMER
    je .timer
    cmp r11d, R_CPUID
    jne .end
    inc r9
    vmr r11, GUEST_RIP
    add r11, 2
    vmw GUEST_RIP, r11
    jmp .again
.timer:
    inc rbp
    vmw PREEMPTION_TIMER_VALUE, 500
    jmp .again
.end:
    check_field EXIT_REASON, R_VMCALL
    check_eq rbx, ROUNDS
    check_eq r8, 0
    check_eq r9, ROUNDS / 64 + 1
    check_eq qword [COUNTER], ROUNDS
    cmp rbp, 10
    check_true a
    check_field GUEST_INTERRUPT_STATUS, 0
    finish

guest:
    inc qword [COUNTER_GPA]
    mov rax, cr8
    cmp eax, 5
    jne .wrong
    mov rax, cr0
    bt eax, 18                              ; AM, as the hypervisor shows it
    jnc .wrong
    rdtsc
    bt edx, 18
    jnc .wrong
    lea r10, [r10 + r10 * 4 + 1]
    mov [VMX_FREE + 0x100], r10
    mov rax, [VMX_FREE + 0x100]
    cmp rax, r10
    jne .wrong
    test bl, 63
    jnz .no_exit
    cpuid                                   ; the hypervisor skips it
.no_exit:
    inc rbx
    cmp ebx, ROUNDS
    jb guest
    vmcall
.wrong:
    inc r8
    jmp .no_exit
