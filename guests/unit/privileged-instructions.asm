; Instructions that need privilege: CPL 0, IOPL, or a bit of CR4 (SDM volume 3, "Privileged Instructions"; volume 1,
; "I/O Privilege Level" and "I/O Permission Bit Map"), in 32-bit protected and in 64-bit mode.
%include "guest.inc"

; The same list in both modes.
%macro only_level_0 0
    user_expect V_GP, 0, hlt
    user_expect V_GP, 0, clts
    user_expect V_GP, 0, invd
    user_expect V_GP, 0, wbinvd
    user_expect V_GP, 0, lgdt [SCRATCH]
    user_expect V_GP, 0, lidt [SCRATCH]
    mov eax, 0
    user_expect V_GP, 0, lldt ax
    user_expect V_GP, 0, ltr ax
    user_expect V_GP, 0, lmsw ax
    user_expect V_GP, 0, invlpg [SCRATCH]
    mov ecx, MSR_EFER
    user_expect V_GP, 0, rdmsr
    user_expect V_GP, 0, wrmsr
    user_expect V_GP, 0, mov xAX, cr0
    user_expect V_GP, 0, mov xAX, cr2
    user_expect V_GP, 0, mov xAX, cr3
    user_expect V_GP, 0, mov xAX, cr4
    user_expect V_GP, 0, mov cr0, xAX
    user_expect V_GP, 0, mov cr2, xAX
    user_expect V_GP, 0, mov cr3, xAX
    user_expect V_GP, 0, mov cr4, xAX
    user_expect V_GP, 0, mov xAX, dr0
    user_expect V_GP, 0, mov xAX, dr6
    user_expect V_GP, 0, mov dr7, xAX
    user_expect V_UD, 0, db 0x0f, 0x20, 0xc8        ; CR1
    user_expect V_UD, 0, db 0x0f, 0x22, 0xe8        ; CR5
    user_expect V_UD, 0, clac
    user_expect V_UD, 0, stac
    expect V_UD, 0, db 0x0f, 0x20, 0xc8
    expect V_UD, 0, db 0x0f, 0x22, 0xf8             ; CR7
    expect V_UD, 0, db 0x0f, 0x0b
    expect V_UD, 0, db 0xf0, 0x0f, 0x0b
    ; IOPL
    user_expect V_GP, 0, cli
    user_expect V_GP, 0, sti
    user_expect V_GP, 0, in al, 0x80
    user_expect V_GP, 0, out 0x80, al
    mov edx, 0x80
    user_expect V_GP, 0, in eax, dx
    user_expect V_GP, 0, out dx, ax
    mov xDI, SCRATCH
    mov xSI, xDI
    mov ecx, 2
    user_expect V_GP, 0, rep insb
    user_expect V_GP, 0, rep outsd
    check_eq xCX, 2
    mov dword [user.flags], FLAG_IOPL | 2
    user_run sti
    mov xAX, [event.flags]
    check_eq xAX, FLAG_IOPL | FLAG_IF | 2
    user_run cli
    user_run in al, 0x80
    user_run out dx, eax
    mov dword [user.flags], FLAG_IOPL & 0x2000 | 2
    user_expect V_GP, 0, cli
    mov dword [user.flags], 2
    ; POPF at level 3 leaves IF and IOPL alone without complaint
    mov xAX, USER_STACK_TOP - WORD_BYTES
    mov [user.sp], xAX
    mov xWORD [USER_STACK_TOP - WORD_BYTES], FLAG_IF | FLAG_IOPL | FLAG_CF | FLAG_VIF | FLAG_VIP | FLAG_AC
    user_run POPF
    mov xAX, [event.flags]
    check_eq xAX, FLAG_CF | FLAG_AC | 2
    mov xAX, USER_STACK_TOP
    mov [user.sp], xAX
    user_run sgdt [SCRATCH]
    user_run sidt [SCRATCH]
    user_run sldt eax
    user_run str eax
    user_run smsw eax
    user_run rdtsc
    mov xAX, cr4
    or xAX, CR4_TSD | CR4_UMIP
    mov cr4, xAX
    user_expect V_GP, 0, rdtsc
    user_expect V_GP, 0, rdtscp
    expect_nothing rdtsc
    user_expect V_GP, 0, sgdt [SCRATCH]
    user_expect V_GP, 0, sidt [SCRATCH]
    user_expect V_GP, 0, sldt eax
    user_expect V_GP, 0, sldt [SCRATCH]
    user_expect V_GP, 0, str ax
    user_expect V_GP, 0, smsw eax
    expect_nothing sgdt [SCRATCH]
    expect_nothing smsw eax
    mov xAX, cr4
    and xAX, ~(CR4_TSD | CR4_UMIP)
    mov cr4, xAX
%endmacro

; covers: CPUID umip
; The I/O permission bitmap; the TSS's limit covers `task_map`.
%macro port_bitmap 0
    mov word [gdt + TASK], 0x68 + 0x20 + 0x90
    and byte [gdt + TASK + 5], ~2
    mov eax, TASK
    ltr ax
    mov word [task_state.map], task_map - task_state
    mov xDI, task_map
    mov ecx, 0x90
    mov al, 0xff
    cld
    rep stosb
    mov byte [task_map + (0x80 >> 3)], 0xfe     ; port 0x80
    user_run in al, 0x80
    user_run out 0x80, al
    user_expect V_GP, 0, in al, 0x81
    user_expect V_GP, 0, in ax, 0x80
    mov byte [task_map + (0x80 >> 3)], 0xf0     ; 0x80 to 0x83
    user_run in eax, 0x80
    user_expect V_GP, 0, in eax, 0x81
    mov byte [task_map + (0x80 >> 3)], 0x3f     ; 0x86 and 0x87
    mov byte [task_map + (0x88 >> 3)], 0xfc     ; 0x88 and 0x89: across the bytes
    user_run in eax, 0x86
    mov byte [task_map + (0x88 >> 3)], 0xfe
    user_expect V_GP, 0, in eax, 0x86
    user_run in al, 0x88
    mov edx, 0x47f
    mov byte [task_map + (0x478 >> 3)], 0       ; the last byte within the limit but one
    user_run in al, dx
    mov edx, 0x480
    user_expect V_GP, 0, in al, dx
    mov edx, 0x487                              ; the byte after is beyond the limit
    user_expect V_GP, 0, in al, dx
    mov edx, 0xffff
    user_expect V_GP, 0, in al, dx
    mov word [task_state.map], 0xffff
    user_expect V_GP, 0, in al, 0x80
    mov word [task_state.map], task_map - task_state
    mov word [gdt + TASK], 0x67                 ; the segment ends before the bitmap
    and byte [gdt + TASK + 5], ~2
    mov eax, TASK
    ltr ax
    user_expect V_GP, 0, in al, 0x80
%endmacro

main:
    set_descriptor USER_CODE32, 0, 0xfffff, ACCESS_CODE + DPL3, FLAGS_PAGES32
    group "32-bit protected mode"
    only_level_0
    group "I/O permission bitmap, 32-bit"
    port_bitmap
    group "control registers, 32-bit"
    mov eax, CR0_PG
    expect V_GP, 0, mov cr0, eax                ; paging without protection
    mov eax, cr0
    or eax, CR0_NW
    expect V_GP, 0, mov cr0, eax                ; NW without CD
    mov eax, cr4
    or eax, 1 << 15
    expect V_GP, 0, mov cr4, eax                ; a reserved bit
    mov eax, cr4
    or eax, CR4_PCIDE
    expect V_GP, 0, mov cr4, eax                ; only in IA-32e mode
    mov eax, cr0
    and eax, ~CR0_ET
    mov cr0, eax
    mov eax, cr0
    test eax, CR0_ET
    check_true nz                               ; always 1
    mov eax, cr0
    mov ebx, eax
    or eax, 0x1ff80                             ; reserved bits are ignored
    mov cr0, eax
    mov eax, cr0
    and eax, ~CR0_WP
    check_eq eax, ebx
    mov cr0, ebx
    xor eax, eax
    lmsw ax                                     ; cannot leave protected mode
    mov eax, cr0
    check_eq eax, ebx
    mov eax, CR0_PE | CR0_TS | CR0_EM
    lmsw ax
    smsw eax
    clts
    mov ecx, cr0
    mov cr0, ebx
    and eax, 0xf
    check_eq eax, CR0_PE | CR0_TS | CR0_EM
    and ecx, 0xf
    check_eq ecx, CR0_PE | CR0_EM
    mov eax, 0x12345678
    mov cr2, eax
    mov edx, cr2
    check_eq edx, 0x12345678
    mov ecx, 0x12345
    expect V_GP, 0, rdmsr
    expect V_GP, 0, wrmsr
    mov ecx, MSR_EFER
    rdmsr
    or eax, 0x100000
    expect V_GP, 0, wrmsr
    mov word [gdt + TASK], 0x67

    go_long
    group "64-bit mode"
    only_level_0
    group "I/O permission bitmap, 64-bit"
    port_bitmap
    group "control registers, 64-bit"
    mov rax, cr4
    mov rbx, rax
    btc rax, 5
    expect V_GP, 0, mov cr4, rax                ; PAE cannot go
    mov rax, rbx
    bts rax, 32
    expect V_GP, 0, mov cr4, rax
    mov rax, cr0
    btr rax, 31
    expect V_GP, 0, mov cr0, rax                ; paging cannot go in 64-bit mode
    mov rax, cr0
    bts rax, 32
    expect V_GP, 0, mov cr0, rax
    mov rax, cr3
    bts rax, 62
    expect V_GP, 0, mov cr3, rax                ; beyond the physical addresses
    mov ecx, MSR_EFER
    rdmsr
    btc eax, 8
    expect V_GP, 0, wrmsr                       ; LME under paging
    mov rax, -1
    mov cr2, rax
    mov rdx, cr2
    check_eq rdx, -1
    mov eax, 0x10
    expect V_GP, 0, mov cr8, rax
    mov eax, 9
    mov cr8, rax
    mov rdx, cr8
    check_eq rdx, 9
    user_expect V_GP, 0, mov rax, cr8
    user_expect V_GP, 0, mov cr8, rax
    xor eax, eax
    mov cr8, rax
    mov rax, 0x100000000
    expect V_GP, 0, mov dr6, rax
    expect V_GP, 0, mov dr7, rax
    mov ecx, MSR_FS_BASE
    xor eax, eax
    mov edx, 0x8000
    expect V_GP, 0, wrmsr                       ; not canonical
    mov ecx, MSR_LSTAR
    expect V_GP, 0, wrmsr
    mov ecx, MSR_KERNEL_GS_BASE
    expect V_GP, 0, wrmsr
    mov ecx, MSR_SYSENTER_EIP
    expect V_GP, 0, wrmsr
    user_expect V_GP, 0, swapgs
    user_expect V_GP, 0, o64 sysret
    expect V_UD, 0, db 0x06                     ; PUSH ES and others are gone
    expect V_UD, 0, db 0x1f
    expect V_UD, 0, db 0x60
    expect V_UD, 0, db 0x61
    expect V_UD, 0, db 0xce
    expect V_UD, 0, db 0xd5, 0x0a
    expect V_UD, 0, db 0xd4, 0x0a
    expect V_UD, 0, db 0x27
    expect V_UD, 0, db 0x9a
    expect V_UD, 0, db 0xea
    expect V_UD, 0, db 0x82, 0xc0, 0
    expect V_UD, 0, db 0xd6
    finish
