; VMX: host and guest that go on from where they were, again and again, while each changes what only the other side of a
; transition would notice: control registers, address spaces, flags, segment bases, and the host's fields of the VMCS.
;! cpu=xeon
%include "guest.inc"
%include "vmx.inc"

EPT_PML4        equ EPT_TABLES
EPT_PDPT        equ EPT_TABLES + 0x1000
EPT_PD          equ EPT_TABLES + 0x2000
COPY_PML4       equ VMX_FREE + 0x1000       ; the same address space but for WINDOW
COPY_PDPT       equ VMX_FREE + 0x2000
COPY_PD         equ VMX_FREE + 0x3000
WINDOW          equ 0xa00000
WINDOW_COPY     equ 0xc00000                ; where the copy has it
HERE            equ 0x11                    ; what the window shows
THERE           equ 0x22
ROUNDS          equ 300
; What the guest asks for by EDI
GO_ON           equ 0
END             equ 1
WRONG           equ 2
FS_BASE_VALUE   equ 0x12345678

main:
    go_long
  use 64
    call set_up_vmx
    mov qword [EPT_PML4], EPT_PDPT | 7
    mov qword [EPT_PDPT], EPT_PD | 7
    mov eax, 0xb7
    xor ecx, ecx
.map:
    mov [EPT_PD + rcx * 8], rax
    add rax, 0x200000
    inc ecx
    cmp ecx, 512
    jb .map
    mov rax, cr4
    or eax, CR4_OSFXSR
    mov cr4, rax
    call fresh_vmcs
    mov esi, PAGE_TABLES
    mov edi, COPY_PML4
    mov ecx, 0x3000 / 8
    rep movsq
    mov eax, COPY_PDPT
    mov al, [PAGE_TABLES]
    mov [COPY_PML4], rax
    mov eax, COPY_PD
    mov al, [PAGE_TABLES + 0x1000]
    mov [COPY_PDPT], rax
    mov rax, [PAGE_TABLES + 0x2000 + (WINDOW_COPY >> 21) * 8]
    mov [COPY_PD + (WINDOW >> 21) * 8], rax
    mov qword [WINDOW], HERE
    mov qword [WINDOW_COPY], THERE

    group "VMX: host and guest go on as they were left"
    enable SECONDARY, SEC_EPT
    enable SECONDARY, SEC_VPID
    vmw VIRTUAL_PROCESSOR_ID, 1
    vmw EPT_POINTER, EPT_PML4 | 0x1e
    vmw HOST_RIP, exit_entry
    vmw GUEST_RIP, guest
    mov ebx, ROUNDS
    xor r9d, r9d                            ; exits
    xor r10d, r10d                          ; what the host finds wrong: the number of the exit, and of the check
    vmw HOST_RSP, rsp
    vmlaunch
    fail

exit_entry:
    pushfq
    pop r14
    inc r9d
    mov r8d, 1
    cmp r14d, 2
    jne .wrong
%macro is_field 2                           ; control register, field
    inc r8d
    mov r14, %1
    vmr r15, %2
    cmp r14, r15
    jne .wrong
%endmacro
    is_field cr0, HOST_CR0
    is_field cr3, HOST_CR3
    is_field cr4, HOST_CR4
    inc r8d
    mov r15d, HERE
    mov r14, cr3
    cmp r14, COPY_PML4
    jne .here
    mov r15d, THERE
.here:
    cmp [WINDOW], r15
    jne .wrong
    inc r8d
    movaps xmm0, xmm0                       ; faults where the guest's CR0.TS or CR4.OSFXSR is in effect
    push rcx
    push rax
    push rdx
    mov ecx, MSR_FS_BASE
    rdmsr
    mov r14d, eax
    pop rdx
    pop rax
    pop rcx
    test r14d, r14d
    jnz .wrong
    inc r8d
    vmr r14, EXIT_REASON
    cmp r14d, R_VMCALL
    jne .wrong
    inc r8d
    cmp edi, WRONG
    je .wrong
    cmp edi, END
    je .end
    ; Something else before every other entry.
    mov r14d, r9d
    and r14d, 31
    cmp r14d, 2
    jne .not_2
    mov r15d, COPY_PML4                     ; the host's address space, and where exits lead to
    mov cr3, r15
    vmw HOST_CR3, r15
    jmp .enter
.not_2:
    cmp r14d, 6
    jne .not_6
    mov r15d, PAGE_TABLES
    mov cr3, r15
    vmw HOST_CR3, r15
    jmp .enter
.not_6:
    cmp r14d, 9
    jne .not_9
    vmw HOST_CR3, COPY_PML4                 ; only where they lead to
    jmp .enter
.not_9:
    cmp r14d, 12
    jne .not_12
    vmw HOST_CR3, PAGE_TABLES
    jmp .enter
.not_12:
    cmp r14d, 15
    jne .not_15
    mov r15, cr4                            ; exits bring back what the host changes here
    and r15d, ~CR4_OSFXSR
    mov cr4, r15
    jmp .enter
.not_15:
    cmp r14d, 18
    jne .not_18
    vmr r15, HOST_CR4
    btc r15, 3
    vmw HOST_CR4, r15
    jmp .enter
.not_18:
    cmp r14d, 21
    jne .not_21
    mov r15, cr0
    or r15d, CR0_TS
    mov cr0, r15
    jmp .enter
.not_21:
    cmp r14d, 24
    jne .not_24
    vmr r15, HOST_CR0
    btc r15, 16
    vmw HOST_CR0, r15
    jmp .enter
.not_24:
    cmp r14d, 27
    jne .not_27
    mov r15d, 2
    invvpid r15, [everything]
    jmp .enter
.not_27:
    cmp r14d, 29
    jne .not_29
    mov r15d, COPY_PML4
    mov cr3, r15
    jmp .enter
.not_29:
    cmp r14d, 31
    jne .enter
    pushfq                                  ; flags of the host are no business of the guest's
    or dword [rsp], FLAG_AC | FLAG_CF | FLAG_DF
    popfq
.enter:
    vmr r15, GUEST_RIP
    add r15, 3
    mov r12d, GUEST_RIP
    vmwrite r12, r15
    vmresume
    fail
.wrong:
    mov r10d, r9d
    shl r10, 8
    or r10d, r8d
.end:
    cld
    mov rax, PAGE_TABLES
    mov cr3, rax
    check_eq r10, 0
    check_eq rbx, 0
    finish

%macro exit 0
    xor edi, edi
    vmcall
%endmacro
%macro must_be 1                            ; condition
    j%1 %%right
    mov edi, WRONG
    vmcall
%%right:
%endmacro
guest:
    exit
    cmp qword [WINDOW], HERE
    must_be e
    mov eax, COPY_PML4
    mov cr3, rax
    cmp qword [WINDOW], THERE
    must_be e
    exit
    cmp qword [WINDOW], THERE
    must_be e
    exit
    mov rax, cr4
    and eax, ~CR4_OSFXSR
    mov cr4, rax
    exit
    mov rcx, cr4
    cmp rax, rcx
    must_be e
    or eax, CR4_OSFXSR
    mov cr4, rax
    exit
    movaps xmm0, xmm0
    mov rax, cr0
    or eax, CR0_TS
    mov cr0, rax
    exit
    exit
    mov rcx, cr0
    cmp rax, rcx
    must_be e
    clts
    exit
    movaps xmm0, xmm0
    push FLAG_AC | FLAG_DF | FLAG_ZF | FLAG_CF | 2
    popfq
    vmcall
    pushfq
    pop rax
    cld
    cmp eax, FLAG_AC | FLAG_DF | FLAG_ZF | FLAG_CF | 2
    must_be e
    push 2
    popfq
    mov ecx, MSR_FS_BASE
    xor edx, edx
    mov eax, FS_BASE_VALUE
    wrmsr
    exit
    xor eax, eax
    rdmsr
    cmp eax, FS_BASE_VALUE
    must_be e
    mov eax, PAGE_TABLES
    mov cr3, rax
    dec ebx
    jnz guest
    mov edi, END
    vmcall

align 8
everything: dq 0, 0
