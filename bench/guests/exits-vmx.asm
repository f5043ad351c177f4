; Round trips of VM exits under VMX: a hypervisor that does no more than to go on behind the instruction, and a guest that
; makes it do so. Before and after each kind a byte goes to the debug console.
%include "guest.inc"
%include "vmx.inc"

EPT_PML4        equ EPT_TABLES
EPT_PDPT        equ EPT_TABLES + 0x1000
EPT_PD          equ EPT_TABLES + 0x2000
UNMAPPED        equ 0x20000000
MARK            equ 1
%ifndef COUNT
%define COUNT 100000
%endif

; Name of the kind, its instruction: runs it COUNT times.
%macro measure 1+
    mov eax, %%at
    call measure_kind
    jmp %%over
%%at:
    mov ebp, COUNT
%%again:
    %1
    dec ebp
    jnz %%again
    mov edi, 1                              ; the end
    vmcall
%%over:
%endmacro

main:
    go_long
  use 64
    call set_up_vmx
    mov qword [EPT_PML4], EPT_PDPT | 7
    mov qword [EPT_PDPT], EPT_PD | 7
    mov eax, 0xb7
    mov edi, EPT_PD
.map:
    mov [rdi], rax
    add rax, 0x200000
    add edi, 8
    cmp eax, UNMAPPED
    jb .map
    enable SECONDARY, SEC_EPT
    enable SECONDARY, SEC_VPID
    enable PRIMARY, PRI_IO
    vmw EPT_POINTER, EPT_PML4 | 0x1e
    vmw HOST_RIP, exit_entry
    measure vmcall
    measure cpuid
    measure out 0x80, al
    measure mov al, [UNMAPPED]
    mov al, EXIT_PASSED
    mov dx, DEBUG_EXIT
    out dx, al
.end:
    hlt
    jmp .end

mark:
    push rdx
    mov dx, DEBUG_CONSOLE
    mov al, MARK
    out dx, al
    pop rdx
    ret

; Guest at EAX: once to warm up, then between two marks.
measure_kind:
    mov ebx, eax
    call run_kind
    call mark
    call run_kind
    jmp mark
run_kind:
    xor edi, edi
    vmw GUEST_RIP, rbx
    vmw HOST_RSP, rsp
    cmp byte [is_launched], 0
    jne .resume
    mov byte [is_launched], 1
    vmlaunch
    fail
.resume:
    vmresume
    fail

; As a hypervisor does: looks at the reason, and goes on behind the instruction.
exit_entry:
    mov r12d, EXIT_REASON
    vmread rsi, r12
    test edi, edi
    jnz .return
    mov r12d, GUEST_RIP
    vmread r13, r12
    mov r8d, 7                              ; the length of MOV AL, [UNMAPPED]
    cmp esi, R_EPT_VIOLATION
    je .next
    mov r14d, EXIT_INSTRUCTION_LENGTH
    vmread r8, r14
.next:
    add r13, r8
    vmwrite r12, r13
    vmresume
    fail
.return:
    ret
