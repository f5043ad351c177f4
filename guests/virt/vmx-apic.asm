; VMX: TPR shadow, APIC-access page, APIC-register virtualization, x2APIC registers, virtual-interrupt delivery, posted
; interrupts; VMCS shadowing: SDM volume 3, "APIC Virtualization and Virtual Interrupts" and "VMCS Types".
;! cpu=xeon
%include "guest.inc"
%include "vmx.inc"

APIC_PAGE           equ VMX_FREE + 0x10000  ; what the guest takes for its APIC
POSTED_DESCRIPTOR   equ VMX_FREE + 0x11000
VMREAD_BITMAP_PAGE  equ VMX_FREE + 0x12000
VMWRITE_BITMAP_PAGE equ VMX_FREE + 0x13000
EPT_PML4            equ EPT_TABLES
EPT_PDPT            equ EPT_TABLES + 0x1000
EPT_PD              equ EPT_TABLES + 0x2000

VTPR                equ VIRTUAL_APIC + 0x80
VPPR                equ VIRTUAL_APIC + 0xa0
VEOI                equ VIRTUAL_APIC + 0xb0
VISR                equ VIRTUAL_APIC + 0x100
VIRR                equ VIRTUAL_APIC + 0x200
VICR                equ VIRTUAL_APIC + 0x300

%macro clear_apic 0
    mov edi, VIRTUAL_APIC
    mov ecx, 0x1000 / 8
    xor eax, eax
    rep stosq
%endmacro
; Qualification, instruction
%macro accesses 2+
    intercepted_access %2
    check_field EXIT_QUALIFICATION, %1
%endmacro
%macro intercepted_access 1+
    jmp %%over
%%at:
    %1
    vmcall
%%over:
    run_guest_at %%at
    check_field EXIT_REASON, R_APIC_ACCESS
    check_field GUEST_RIP, %%at
%endmacro
; Reason, qualification, instruction: an exit that comes behind the instruction
%macro traps 3+
    jmp %%over
%%at:
    %3
%%next:
    vmcall
%%over:
    run_guest_at %%at
    check_field EXIT_REASON, %1
    check_field EXIT_QUALIFICATION, %2
    check_field GUEST_RIP, %%next
%endmacro

main:
    go_long
  use 64
    call set_up_vmx

    group "VMX APIC: TPR shadow"
    clear_apic
    enable PRIMARY, PRI_TPR_SHADOW
    mov dword [VTPR], 0x50
    mov ebx, 7
    executed mov rcx, cr8
    check_eq rcx, 5
    executed mov cr8, rbx
    check_d [VTPR], 0x70
    mov rax, cr8                            ; the host's own
    check_eq rax, 0
    vmw TPR_THRESHOLD, 4
    mov ebx, 4
    executed mov cr8, rbx                   ; not below the threshold
    ; covers: staying instead of exit 43
    mov ebx, 3
    traps R_TPR, 0, mov cr8, rbx
    check_d [VTPR], 0x30
    entry_fails E_CONTROLS                  ; VTPR is below the threshold
    mov dword [VTPR], 0x40
    executed nop

    group "VMX APIC: the APIC-access page"
    fresh_guest
    clear_apic
    mov dword [APIC_PAGE + 0x20], 0x11111111
    enable SECONDARY, SEC_APIC_ACCESS
    vmw APIC_ACCESS_ADDRESS, APIC_PAGE
    mov ebx, APIC_PAGE
    accesses 0x20, mov eax, [rbx + 0x20]
    accesses 0x1300, mov [rbx + 0x300], eax
    accesses 0x80, mov eax, [rbx + 0x80]
    jmp .over_fetch
.at_fetch:
    jmp rbx
.over_fetch:
    run_guest_at .at_fetch
    check_field EXIT_REASON, R_APIC_ACCESS
    check_field EXIT_QUALIFICATION, 0x2000
    vmw ENTRY_INTERRUPTION_INFORMATION, EVENT_VALID | EVENT_EXCEPTION | V_UD
    vmw GUEST_RSP, APIC_PAGE + 0x100
    run_guest_at main
    check_field EXIT_REASON, R_APIC_ACCESS
    vmr rax, EXIT_QUALIFICATION
    and eax, 0xf000
    check_eq rax, 0x3000
    check_field IDT_VECTORING_INFORMATION, EVENT_VALID | EVENT_EXCEPTION | V_UD
    vmw GUEST_RSP, GUEST_STACK_TOP
    enable PRIMARY, PRI_TPR_SHADOW
    mov dword [VTPR], 0x60
    executed mov eax, [rbx + 0x80]
    check_eq rax, 0x60
    executed movzx eax, byte [rbx + 0x80]
    check_eq rax, 0x60
    mov eax, 0x90
    executed mov [rbx + 0x80], eax
    check_d [VTPR], 0x90
    accesses 0x80, mov rax, [rbx + 0x80]    ; more than 32 bits
    accesses 0x82, mov eax, [rbx + 0x82]    ; beyond the register
    accesses 0x20, mov eax, [rbx + 0x20]
    vmw TPR_THRESHOLD, 5
    executed mov [rbx + 0x80], eax
    mov eax, 0x40
    traps R_TPR, 0, mov [rbx + 0x80], eax
    call run_guest                          ; entered below the threshold: out again at once
    check_field EXIT_REASON, R_TPR
    vmr rax, GUEST_RIP
    mov rcx, rax
    call run_guest
    check_field GUEST_RIP, rcx
    mov dword [VTPR], 0x90
    check_d [APIC_PAGE + 0x20], 0x11111111  ; the page itself is untouched
    check_d [APIC_PAGE + 0x80], 0

    group "VMX APIC: the APIC-access page through EPT"
    call build_ept
    fresh_guest
    enable SECONDARY, SEC_EPT
    enable SECONDARY, SEC_APIC_ACCESS
    enable PRIMARY, PRI_TPR_SHADOW
    vmw EPT_POINTER, EPT_PML4 | 0x1e
    vmw APIC_ACCESS_ADDRESS, APIC_PAGE
    executed mov eax, [rbx + 0x80]
    check_eq rax, 0x90
    accesses 0x1030, mov [rbx + 0x30], eax

    group "VMX APIC: APIC-register virtualization"
    fresh_guest
    clear_apic
    enable SECONDARY, SEC_APIC_ACCESS
    enable SECONDARY, SEC_APIC_REGISTERS
    enable PRIMARY, PRI_TPR_SHADOW
    vmw APIC_ACCESS_ADDRESS, APIC_PAGE
    mov dword [VIRTUAL_APIC + 0x30], 0x50014
    mov dword [VIRTUAL_APIC + 0x170], 0x77
    executed mov eax, [rbx + 0x30]
    check_eq rax, 0x50014
    executed mov eax, [rbx + 0x170]
    check_eq rax, 0x77
    accesses 0x390, mov eax, [rbx + 0x390]  ; the current count is not among them
    accesses 0x1030, mov [rbx + 0x30], eax
    mov eax, 0x1ff
    traps R_APIC_WRITE, 0xf0, mov [rbx + 0xf0], eax
    check_d [VIRTUAL_APIC + 0xf0], 0x1ff
    traps R_APIC_WRITE, 0x300, mov [rbx + 0x300], eax
    traps R_APIC_WRITE, 0xb0, mov [rbx + 0xb0], eax
    mov eax, 0x12345678
    executed mov [rbx + 0x310], eax         ; the upper half of ICR only
    ; covers: staying instead of exit 56
    check_d [VIRTUAL_APIC + 0x310], 0x12000000
    traps R_APIC_WRITE, 0x380, mov byte [rbx + 0x381], 0x99
    check_d [VIRTUAL_APIC + 0x380], 0x9900

    group "VMX APIC: virtual interrupts"
    call interrupt_guest
    bts dword [VIRR + 0x10], 0x31 - 0x20    ; vector 0x31
    vmw GUEST_INTERRUPT_STATUS, 0x31
    executed nop                            ; IF is 0
    vmw GUEST_RFLAGS, 2 | FLAG_IF
    call run_in_handler
    check_d [event.vector], 0x31
    check_d [VISR + 0x10], 1 << 0x11
    check_d [VIRR + 0x10], 0
    check_field GUEST_INTERRUPT_STATUS, 0x3100
    check_d [VPPR], 0x30
    ; A lower one waits for the EOI, which delivers it.
    ; covers: staying instead of exit 45
    bts dword [VIRR + 0x10], 0x22 - 0x20
    vmw GUEST_INTERRUPT_STATUS, 0x3122
    vmw GUEST_RFLAGS, 2 | FLAG_IF
    guest_exits R_VMCALL, nop
    mov dword [event.vector], NONE
    vmw GUEST_RFLAGS, 2 | FLAG_IF
    mov qword [armed.resume], .second
    mov qword [armed.sp], GUEST_STACK_TOP
    jmp .over_eoi
.at_eoi:
    mov dword [rbx + 0xb0], 0
    mov ecx, 100
    loop $
    hlt
.second:
    vmcall
.over_eoi:
    run_guest_at .at_eoi
    mov dword [armed.resume], 0
    check_d [event.vector], 0x22
    check_field GUEST_INTERRUPT_STATUS, 0x2200
    check_d [VISR + 0x10], 1 << 2
    ; Priorities: TPR holds it back.
    mov dword [VISR + 0x10], 0
    bts dword [VIRR + 0x20], 0x45 - 0x40
    vmw GUEST_INTERRUPT_STATUS, 0x45
    mov dword [VTPR], 0x50
    vmw GUEST_RFLAGS, 2 | FLAG_IF
    guest_exits R_VMCALL, nop
    check_d [VPPR], 0x50
    vmw GUEST_RFLAGS, 2 | FLAG_IF
    mov dword [event.vector], NONE
    mov qword [armed.resume], .third
    jmp .over_tpr
.at_tpr:
    xor eax, eax
    mov cr8, rax
    mov ecx, 100
    loop $
    hlt
.third:
    vmcall
.over_tpr:
    run_guest_at .at_tpr
    mov dword [armed.resume], 0
    check_d [event.vector], 0x45
    ; EOI that the hypervisor wants to see
    vmw EOI_EXIT_BITMAP1, 1 << (0x45 - 0x40)
    vmw GUEST_RFLAGS, 2
    traps R_EOI, 0x45, mov dword [rbx + 0xb0], 0
    check_d [VISR + 0x20], 0
    check_field GUEST_INTERRUPT_STATUS, 0
    vmw EOI_EXIT_BITMAP1, 0
    ; To itself
    vmw GUEST_RFLAGS, 2
    executed mov dword [rbx + 0x300], 0x40055
    check_d [VIRR + 0x20], 1 << 0x15
    check_field GUEST_INTERRUPT_STATUS, 0x55
    traps R_APIC_WRITE, 0x300, mov dword [rbx + 0x300], 0x48055     ; level-triggered
    traps R_APIC_WRITE, 0x300, mov dword [rbx + 0x300], 0x40005     ; vector too small
    traps R_APIC_WRITE, 0x300, mov dword [rbx + 0x300], 0x55        ; to others
    ; An interrupt window exit goes before
    enable PRIMARY, PRI_INTERRUPT_WINDOW
    vmw GUEST_RFLAGS, 2 | FLAG_IF
    guest_exits R_INTERRUPT_WINDOW, nop
    disable PRIMARY, PRI_INTERRUPT_WINDOW
    vmw GUEST_ACTIVITY, 1                   ; it ends HLT
    call run_in_handler
    check_d [event.vector], 0x55

    group "VMX APIC: posted interrupts"
    call interrupt_guest
    enable PIN, PIN_POSTED
    enable EXIT, EXIT_ACKNOWLEDGE
    vmw POSTED_INTERRUPT_DESCRIPTOR_ADDRESS, POSTED_DESCRIPTOR
    vmw POSTED_INTERRUPT_NOTIFICATION_VECTOR, 0xe1
    mov dword [POSTED_DESCRIPTOR + 8], 1 << (0x44 - 0x40)
    mov dword [POSTED_DESCRIPTOR + 0x20], 1
    mov r11d, LOCAL_APIC
    mov dword [r11 + 0xf0], 0x1ff
    mov dword [r11 + 0x300], 0x400e1        ; the notification
    vmw GUEST_RFLAGS, 2 | FLAG_IF
    call run_in_handler
    check_d [event.vector], 0x44
    check_eq qword [POSTED_DESCRIPTOR + 8], 0
    check_d [POSTED_DESCRIPTOR + 0x20], 0
    check_d [r11 + 0x170], 0                ; nothing is in service
    mov dword [r11 + 0x300], 0x400e2        ; any other interrupt leaves the guest
    guest_exits R_EXTERNAL, nop
    check_field EXIT_INTERRUPTION_INFORMATION, EVENT_VALID | 0xe2
    mov dword [r11 + 0xb0], 0

    group "VMX APIC: x2APIC registers"
    fresh_guest
    clear_apic
    enable PRIMARY, PRI_TPR_SHADOW
    enable SECONDARY, SEC_X2APIC
    vmw EXCEPTION_BITMAP, 1 << V_GP
    mov dword [VTPR], 0x30
    mov dword [VTPR + 4], 0x99
    mov ecx, 0x808
    executed rdmsr
    check_eq rax, 0x30
    check_eq rdx, 0x99
    xor edx, edx
    mov eax, 0x20
    executed wrmsr
    check_d [VTPR], 0x20
    mov eax, 0x100
    guest_faults V_GP | EVENT_ERROR, 0, wrmsr
    vmw TPR_THRESHOLD, 2
    mov eax, 0x10
    traps R_TPR, 0, wrmsr
    vmw TPR_THRESHOLD, 0
    mov ecx, 0x803                          ; the local APIC itself is not in x2APIC mode
    guest_faults V_GP | EVENT_ERROR, 0, rdmsr
    enable SECONDARY, SEC_APIC_REGISTERS
    mov dword [VIRTUAL_APIC + 0x30], 0x1234
    executed rdmsr
    check_eq rax, 0x1234
    enable PIN, PIN_EXTERNAL
    enable SECONDARY, SEC_INTERRUPTS
    vmw GUEST_INTERRUPT_STATUS, 0
    mov ecx, 0x83f
    mov eax, 0x61
    executed wrmsr
    check_field GUEST_INTERRUPT_STATUS, 0x61
    check_d [VIRR + 0x30], 2
    mov eax, 5
    traps R_APIC_WRITE, 0x3f0, wrmsr
    mov eax, 0x100
    guest_faults V_GP | EVENT_ERROR, 0, wrmsr
    bts dword [VISR + 0x30], 2
    vmw GUEST_INTERRUPT_STATUS, 0x6200
    mov ecx, 0x80b
    xor eax, eax
    executed wrmsr
    check_field GUEST_INTERRUPT_STATUS, 0
    mov eax, 1
    guest_faults V_GP | EVENT_ERROR, 0, wrmsr

    group "VMX: VMCS shadowing"
    fresh_guest
    mov ecx, MSR_VMX
    rdmsr
    or eax, 0x80000000
    mov [OTHER_VMCS], eax
    vmclear [pointer_other]
    vmptrld [pointer_other]
    fails_invalid vmlaunch                  ; a shadow VMCS cannot be entered
    vmw GUEST_RIP, 0x4242
    vmw GUEST_RSP, 0x4343
    vmclear [pointer_other]
    vmptrld [pointer_vmcs]
    vmw VMCS_LINK_POINTER, OTHER_VMCS
    entry_exits R_GUEST_STATE, 4            ; the shadow indicator needs the control
    enable SECONDARY, SEC_SHADOWING
    vmw VMREAD_BITMAP, VMREAD_BITMAP_PAGE
    vmw VMWRITE_BITMAP, VMWRITE_BITMAP_PAGE
    mov r9d, GUEST_RIP
    mov r10d, GUEST_RSP
    bts dword [VMREAD_BITMAP_PAGE + (GUEST_RSP / 32) * 4], GUEST_RSP % 32
    executed vmread rbx, r9
    check_eq rbx, 0x4242
    intercepted R_VMREAD, vmread rbx, r10
    mov ebx, 0x5151
    executed vmwrite r9, rbx
    executed vmwrite r10, rbx
    mov r9, 1 << 32
    intercepted R_VMREAD, vmread rbx, r9
    mov r9d, 0x6c1e
    guest_exits R_VMCALL, vmread rbx, r9    ; fails in the guest
    vmr rax, GUEST_RFLAGS
    bt eax, 6
    check_true c
    vmw VMCS_LINK_POINTER, -1
    vmptrld [pointer_other]
    check_field GUEST_RIP, 0x5151
    check_field GUEST_RSP, 0x5151
    vmptrld [pointer_vmcs]
    finish

; A guest whose interrupts are virtual.
interrupt_guest:
    fresh_guest
    clear_apic
    enable PRIMARY, PRI_TPR_SHADOW
    enable PIN, PIN_EXTERNAL
    enable SECONDARY, SEC_APIC_ACCESS
    enable SECONDARY, SEC_APIC_REGISTERS
    enable SECONDARY, SEC_INTERRUPTS
    vmw APIC_ACCESS_ADDRESS, APIC_PAGE
    vmw EOI_EXIT_BITMAP0, 0
    vmw EOI_EXIT_BITMAP1, 0
    vmw EOI_EXIT_BITMAP2, 0
    vmw EOI_EXIT_BITMAP3, 0
    vmw GUEST_INTERRUPT_STATUS, 0
    mov ebx, APIC_PAGE
    ret

; The guest waits for an interrupt, whose handler leaves.
run_in_handler:
    mov dword [event.vector], NONE
    mov qword [armed.resume], .come
    mov qword [armed.sp], GUEST_STACK_TOP
    vmw GUEST_RIP, .wait
    call run_guest
    mov dword [armed.resume], 0
    check_field EXIT_REASON, R_VMCALL
    ret
.wait:
    mov ecx, 1000
    loop $
.come:
    vmcall

build_ept:
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
    ret
