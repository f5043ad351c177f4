; Alignment checking at level 3 with CR0.AM and EFLAGS.AC, and the alignment that instructions ask for themselves: SDM
; volume 3, "Interrupt 17—Alignment Check Exception (#AC)".
%include "guest.inc"

DATA        equ SCRATCH + 0x100

%macro checked_accesses 0
    mov xBX, DATA
    mov dword [user.flags], FLAG_AC | 2
    user_expect V_AC, 0, mov eax, [xBX + 1]
    user_expect V_AC, 0, mov eax, [xBX + 2]
    user_run mov eax, [xBX + 4]
    user_expect V_AC, 0, mov ax, [xBX + 1]
    user_run mov ax, [xBX + 2]
    user_run mov al, [xBX + 1]
    user_expect V_AC, 0, mov [xBX + 3], ax
    user_expect V_AC, 0, inc dword [xBX + 3]
    user_expect V_AC, 0, lock inc dword [xBX + 3]
    user_expect V_AC, 0, xchg eax, [xBX + 3]
    user_expect V_AC, 0, push xWORD [xBX + 1]
    user_expect V_AC, 0, fld qword [xBX + 4]
    user_run fld qword [xBX + 8]
    user_expect V_AC, 0, fld dword [xBX + 2]
    user_expect V_AC, 0, cmpxchg8b [xBX + 4]
    user_run movups xmm0, [xBX + 16]
    user_run nop dword [xBX + 1]
    user_run lea eax, [xBX + 1]
    mov xSI, DATA + 1
    mov xDI, DATA + 8
    user_expect V_AC, 0, movsd
    mov xCX, 2
    user_expect V_AC, 0, rep movsw
    check_eq xCX, 2
    mov xSI, DATA + 1
    user_run rep movsb
    mov xAX, USER_STACK_TOP - 1
    mov [user.sp], xAX
    user_expect V_AC, 0, push xAX
    user_expect V_AC, 0, call %%target
%%target:
    mov xAX, USER_STACK_TOP
    mov [user.sp], xAX
    mov dword [user.flags], 2
    user_run mov eax, [xBX + 1]                 ; AC clear
    mov dword [user.flags], FLAG_AC | 2
    push xWORD FLAG_AC | 2
    POPF
    expect_nothing mov eax, [xBX + 1]           ; level 0 is never checked
    push xWORD 2
    POPF
    mov xAX, cr0
    and xAX, ~CR0_AM
    mov cr0, xAX
    user_run mov eax, [xBX + 1]                 ; AM clear
    mov xAX, cr0
    or xAX, CR0_AM
    mov cr0, xAX
    user_expect V_AC, 0, mov eax, [xBX + 1]
    mov dword [user.flags], 2
%endmacro

main:
    mov eax, cr0
    and eax, ~(CR0_EM | CR0_TS)
    or eax, CR0_AM | CR0_MP | CR0_NE
    mov cr0, eax
    mov eax, cr4
    or eax, CR4_OSFXSR
    mov cr4, eax
    fninit
    group "32-bit protected mode"
    checked_accesses
    ; a segment's base takes part
    set_descriptor GDT_FREE, DATA + 1, 0xff, ACCESS_DATA + DPL3, FLAGS_BYTES32
    mov dword [user.flags], FLAG_AC | 2
    user_run mov eax, GDT_FREE + 3
    mov ecx, GDT_FREE + 3
    user_run call .based
    user_expect_at V_AC, 0, .based_access, call .based_aligned
    mov dword [user.flags], 2
    ; page faults come before #AC only where the page is missing: the order is #AC last of all
    jmp .based_end
.based:
    mov es, ecx
    mov eax, [es:3]
    ret
.based_aligned:
    mov es, ecx
.based_access:
    mov eax, [es:4]
    ret
.based_end:

    group "64-bit mode"
    go_long
    checked_accesses
    mov dword [user.flags], FLAG_AC | 2
    mov rbx, DATA
    user_expect V_AC, 0, mov rax, [rbx + 4]
    user_run mov rax, [rbx + 8]
    mov dword [user.flags], 2

    group "instructions with an alignment of their own"
    mov rbx, DATA
    expect V_GP, 0, movaps xmm0, [rbx + 8]
    expect V_GP, 0, movaps [rbx + 1], xmm0
    expect V_GP, 0, movdqa xmm0, [rbx + 4]
    expect V_GP, 0, addps xmm0, [rbx + 4]
    expect V_GP, 0, movntdq [rbx + 8], xmm0
    expect V_GP, 0, cmpxchg16b [rbx + 8]
    expect V_GP, 0, fxsave [rbx + 8]
    expect V_GP, 0, fxrstor [rbx + 4]
    expect_nothing movaps xmm0, [rbx + 16]
    expect_nothing movupd xmm0, [rbx + 1]
    expect_nothing addss xmm0, [rbx + 1]
    expect_nothing cmpxchg8b [rbx + 1]
    expect_nothing lddqu xmm0, [rbx + 3]
    mov dword [user.flags], FLAG_AC | 2
    user_expect V_GP, 0, movaps xmm0, [rbx + 8]
    finish
