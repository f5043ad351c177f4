; SVM: what could leave a guest and is not asked to stays there: exceptions reach the guest's own handlers, instructions
; are executed, tasks are switched: AMD APM volume 2, "Instruction Intercepts", "Exception Intercepts".
;! cpu=epyc,+monitor
%include "guest.inc"
%include "svm.inc"

TASK_B              equ GDT_FREE
TASK_STATE_B        equ SVM_FREE
AVAILABLE_TASK      equ GDT_FREE + 0x10

; Vector, guest: the exception of its first instruction is delivered through its own table; RIP of the frame is that of
; the instruction at %%at, or the one behind it for traps.
%macro handled 2+.nolist
    gate %1, CODE64, 0x8e
    guest_exits EXIT_VMMCALL, %2
    check_eq qword [SAVE_RIP], guest_handler
%endmacro

main:
    go_long
  use 64
    mov rax, cr4
    or eax, CR4_OSFXSR | CR4_OSXMMEXCPT
    mov cr4, rax
    mov rax, cr0
    or eax, CR0_NE | CR0_AM | CR0_MP
    mov cr0, rax
    call set_up_svm

    group "SVM stays: exceptions in 64-bit mode"
    own_table
    xor ecx, ecx
    mov rsi, 0x123456789000     ; not mapped
    mov rdi, 0x8000000000000000 ; not canonical
    handled V_DE, div ecx
    handled V_UD, ud2
    handled V_GP, mov eax, [rdi]
    handled V_PF, mov eax, [rsi]
    handled V_BP, int3
    handled V_DB, db 0xf1       ; INT1
    set_descriptor GDT_FREE, 0, 0xfffff, ACCESS_DATA & ~0x80, FLAGS_PAGES32
    mov ebx, GDT_FREE
    handled V_NP, mov ds, ebx
    handled V_SS, mov ss, ebx
    or qword [SAVE_CR0], CR0_TS
    handled V_NM, fnop
    own_table
    fninit
    fldcw [.unmasked_control]
    fld1
    fldz
    fdivp
    handled V_MF, fwait
    fninit
    ldmxcsr [.unmasked]
    pxor xmm0, xmm0
    handled V_XM, divss xmm0, xmm0
    ldmxcsr [.masked]
    mov byte [SAVE_CPL], 3
    or word [SAVE_SS + 2], 0x60
    or word [SAVE_CS + 2], 0x60
    mov qword [SAVE_RFLAGS], FLAG_AC | 2
    handled V_AC, mov eax, [SVM_FREE + 1]
    jmp .over_data
.unmasked:
    dd 0
.masked:
    dd 0x1f80
.unmasked_control:
    dw 0x340
.over_data:

    group "SVM stays: exceptions and task switches in protected mode"
%macro protected_guest 0
    own_table
    and dword [SAVE_CR0], ~CR0_PG & 0xffffffff
    mov qword [SAVE_EFER], EFER_SVME
    mov word [SAVE_CS], CODE32
    mov word [SAVE_CS + 2], 0xc9b
%endmacro
%macro gate32 1                 ; vector
    mov eax, guest_handler
    mov [GUEST_IDT + (%1) * 8], ax
    mov word [GUEST_IDT + (%1) * 8 + 2], CODE32
    mov word [GUEST_IDT + (%1) * 8 + 4], 0x8e00
    shr eax, 16
    mov [GUEST_IDT + (%1) * 8 + 6], ax
%endmacro
%macro handled32 2              ; vector, place
    protected_guest
    gate32 %1
    run_guest_at %2
    check_eq qword [EXITCODE], EXIT_VMMCALL
    check_eq qword [SAVE_RIP], guest_handler
%endmacro
    jmp .over_protected
  bits 32
.overflows:
    mov al, 0x7f
    inc al
    into
.exceeds:
    mov eax, 3
    bound eax, [.bounds]
.returns:
    push dword FLAG_NT | 2
    popf
    iret
.jumps:
    jmp TASK_B:0
.new_task:
    vmmcall
.bounds:
    dd 0, 2
  bits 64
.over_protected:
    handled32 V_OF, .overflows
    handled32 V_BR, .exceeds
    handled32 V_TS, .returns    ; the task it came from is none
    protected_guest
    set_descriptor TASK_B, TASK_STATE_B, 0x67, ACCESS_TSS32, 0
    mov edi, TASK_STATE_B
    mov ecx, 0x68 / 8
    xor eax, eax
    rep stosq
    mov dword [TASK_STATE_B + 0x20], .new_task
    mov dword [TASK_STATE_B + 0x24], 2
    mov dword [TASK_STATE_B + 0x48], DATA32
    mov dword [TASK_STATE_B + 0x4c], CODE32
    mov dword [TASK_STATE_B + 0x50], DATA32
    mov dword [TASK_STATE_B + 0x54], DATA32
    run_guest_at .jumps
    check_eq qword [EXITCODE], EXIT_VMMCALL
    check_eq qword [SAVE_RIP], .new_task
    mov eax, VMCB_IMAGE         ; TR is not among what #VMEXIT restores
    vmload

    group "SVM stays: registers"
    fresh_guest
    mov word [CR_READ], 1 << 4
    executed mov rbx, cr0
    mov r14, cr0
    check_eq rbx, r14
    executed mov rbx, cr8
    check_eq rbx, 0
    and qword [SAVE_CR4], ~CR4_DE
    mov r12d, 0x400
    executed mov dr0, r12
    executed mov dr1, r12
    executed mov dr2, r12
    executed mov dr3, r12
    executed mov dr5, r12       ; DR7
    mov r12d, 0xffff0ff0
    executed mov dr4, r12       ; DR6
    mov rax, dr3
    check_eq rax, 0x400
    fresh_guest
    or dword [SAVE_CR4], CR4_OSXSAVE
    xor ecx, ecx
    mov qword [SAVE_RAX], 3
    xor edx, edx
    executed xsetbv

    group "SVM stays: descriptor tables"
    fresh_guest
    mov word [SVM_FREE], 0x77
    mov rax, [SAVE_GDTR + 8]
    mov [SVM_FREE + 2], rax
    executed lgdt [SVM_FREE]
    check_d [SAVE_GDTR + 4], 0x77
    mov r14, [SVM_FREE + 2]
    check_eq qword [SAVE_GDTR + 8], r14
    sgdt [svm_table]            ; the host has its own
    check_w [svm_table], GDT_END - 1
    xor ecx, ecx
    executed lldt cx
    set_descriptor AVAILABLE_TASK, 0x1000, 0x67, ACCESS_TSS32, 0
    mov qword [gdt + AVAILABLE_TASK + 8], 0
    mov ecx, AVAILABLE_TASK
    fresh_guest
    executed ltr cx
    mov eax, OTHER_VMCB
    vmsave
    check_w [OTHER_VMCB + 0x490], AVAILABLE_TASK
    mov eax, VMCB_IMAGE
    vmload

    group "SVM stays: others"
    fresh_guest
    xor ecx, ecx
    mov qword [SAVE_RAX], 0
    executed invlpga
    xor ecx, ecx
    xor edx, edx
    executed monitor
    executed mwait
    mov dword [EXCEPTIONS], 1 << V_GP
    mov ecx, 0xff
    guest_exits EXIT_EXCEPTION + V_GP, rdpmc    ; there is no such counter
    finish
