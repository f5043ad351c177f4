; 32-bit paging: page tables, 4 MiB pages and PSE-36, rights, WP, error codes, accessed and dirty bits, INVLPG:
; SDM volume 3, "32-Bit Paging" and "Access Rights".
%include "guest.inc"

DIRECTORY   equ PAGE_TABLES
TABLE0      equ PAGE_TABLES + 0x1000    ; first 4 MiB, identity
TABLE1      equ PAGE_TABLES + 0x2000    ; for the tests: 0x800000
WINDOW      equ 0x800000
TABLE2      equ PAGE_TABLES + 0x3000    ; 0x400000, identity
TARGET      equ 0x600000                ; what the window shows

%macro window 2                 ; directory bits, table bits
    mov dword [DIRECTORY + 8], TABLE1 | (%1)
    mov dword [TABLE1], TARGET | (%2)
    invlpg [WINDOW]
%endmacro
%macro expect_fault 3+.nolist   ; error code, address, instruction
    expect V_PF, %1, %3
    check_eq [event.cr2], %2
%endmacro
%macro user_fault 3+.nolist
    user_expect V_PF, %1, %3
    check_eq [event.cr2], %2
%endmacro
%macro check_entry 2.nolist     ; entry, its low 12 bits
    mov eax, [%1]
    and eax, 0xfff
    check_eq eax, %2
%endmacro

main:
    mov edi, DIRECTORY
    mov ecx, 0x4000 / 4
    xor eax, eax
    rep stosd
    mov dword [DIRECTORY], TABLE0 | PTE_P | PTE_W | PTE_U
    mov dword [DIRECTORY + 4], TABLE2 | PTE_P | PTE_W | PTE_U
    mov edi, TABLE0
    mov eax, PTE_P | PTE_W | PTE_U
.identity:
    mov [edi], eax
    add edi, 4
    add eax, 0x1000
    cmp edi, TABLE0 + 0x1000
    jb .identity
    mov edi, TABLE2
.identity2:
    mov [edi], eax
    add edi, 4
    add eax, 0x1000
    cmp edi, TABLE2 + 0x1000
    jb .identity2
    mov edi, TARGET
    mov dword [edi], 0x11111111
    mov dword [edi + 4], 0x22222222
    mov dword [edi + 0x1000], 0x33333333
    mov byte [edi + 0x10], 0xc3         ; RET
    mov eax, DIRECTORY
    mov cr3, eax
    mov eax, cr0
    or eax, CR0_PG
    mov cr0, eax

    group "rights of supervisor and user"
    window 0, 0
    expect_fault 0, WINDOW, mov eax, [WINDOW]
    expect_fault PF_W, WINDOW + 4, mov [WINDOW + 4], eax
    expect_at V_PF, 0, WINDOW + 0x10, call WINDOW + 0x10
    add esp, 4
    user_fault PF_U, WINDOW, mov eax, [WINDOW]
    user_fault PF_U | PF_W, WINDOW, mov [WINDOW], eax
    user_expect_at V_PF, PF_U, WINDOW + 0x10, call WINDOW + 0x10
    window PTE_P | PTE_W | PTE_U, 0
    expect_fault 0, WINDOW, mov eax, [WINDOW]
    user_fault PF_U, WINDOW, mov eax, [WINDOW]
    window PTE_P | PTE_W | PTE_U, PTE_P
    user_fault PF_P | PF_U, WINDOW, mov eax, [WINDOW]
    user_fault PF_P | PF_U | PF_W, WINDOW, mov [WINDOW], eax
    user_expect_at V_PF, PF_P | PF_U, WINDOW + 0x10, call WINDOW + 0x10
    expect_nothing mov eax, [WINDOW]
    check_eq eax, 0x11111111
    expect_nothing call WINDOW + 0x10
    window PTE_P | PTE_W, PTE_P | PTE_W | PTE_U         ; both levels must say user
    user_fault PF_P | PF_U, WINDOW, mov eax, [WINDOW]
    window PTE_P | PTE_W | PTE_U, PTE_P | PTE_U
    user_run mov eax, [WINDOW + 4]
    check_eq eax, 0x22222222
    user_fault PF_P | PF_U | PF_W, WINDOW + 4, mov [WINDOW + 4], eax
    user_fault PF_P | PF_U | PF_W, WINDOW + 4, inc dword [WINDOW + 4]
    user_fault PF_P | PF_U | PF_W, WINDOW + 4, lock inc dword [WINDOW + 4]
    user_fault PF_P | PF_U | PF_W, WINDOW + 4, xchg [WINDOW + 4], eax
    mov eax, 1
    user_fault PF_P | PF_U | PF_W, WINDOW + 4, cmpxchg [WINDOW + 4], ebx
    user_fault PF_P | PF_U | PF_W, WINDOW, cmpxchg8b [WINDOW]
    user_fault PF_P | PF_U | PF_W, WINDOW, sidt [WINDOW]
    user_run cmp [WINDOW + 4], eax
    user_run call WINDOW + 0x10
    window PTE_P | PTE_U, PTE_P | PTE_W | PTE_U         ; both levels must say writable
    user_fault PF_P | PF_U | PF_W, WINDOW, mov [WINDOW], eax
    window PTE_P | PTE_W | PTE_U, PTE_P | PTE_W | PTE_U
    mov eax, 0x44444444
    user_run mov [WINDOW + 4], eax
    check_eq [TARGET + 4], 0x44444444

    group "write protection of supervisor accesses"
    window PTE_P | PTE_U, PTE_P | PTE_U
    mov eax, 0x55555555
    expect_nothing mov [WINDOW + 4], eax                ; CR0.WP is off
    check_eq [TARGET + 4], 0x55555555
    mov ebx, cr0
    or ebx, CR0_WP
    mov cr0, ebx
    expect_fault PF_P | PF_W, WINDOW + 4, mov [WINDOW + 4], eax
    window PTE_P | PTE_W, PTE_P
    expect_fault PF_P | PF_W, WINDOW + 4, mov [WINDOW + 4], eax
    window PTE_P, PTE_P | PTE_W
    expect_fault PF_P | PF_W, WINDOW + 4, mov [WINDOW + 4], eax
    and ebx, ~CR0_WP
    mov cr0, ebx
    expect_nothing mov [WINDOW + 4], eax

    group "accessed and dirty bits"
    ; covers: accessed and dirty bits
    mov dword [DIRECTORY + 8], TABLE1 | PTE_P | PTE_W | PTE_U
    mov dword [TABLE1], TARGET | PTE_P | PTE_W
    mov dword [TABLE1 + 4], (TARGET + 0x1000) | PTE_P | PTE_W
    mov ecx, cr3
    mov cr3, ecx
    mov eax, [WINDOW]
    check_entry DIRECTORY + 8, PTE_P | PTE_W | PTE_U | PTE_A
    check_entry TABLE1, PTE_P | PTE_W | PTE_A
    check_entry TABLE1 + 4, PTE_P | PTE_W
    mov [WINDOW], eax
    check_entry TABLE1, PTE_P | PTE_W | PTE_A | PTE_D
    mov [WINDOW + 0x1000], eax
    check_entry TABLE1 + 4, PTE_P | PTE_W | PTE_A | PTE_D
    and dword [TABLE1], ~(PTE_A | PTE_D)
    invlpg [WINDOW]
    cmp dword [WINDOW], 0
    check_entry TABLE1, PTE_P | PTE_W | PTE_A
    or dword [WINDOW], 0
    check_entry TABLE1, PTE_P | PTE_W | PTE_A | PTE_D
    and dword [TABLE1], ~(PTE_A | PTE_D)
    invlpg [WINDOW]
    call WINDOW + 0x10
    check_entry TABLE1, PTE_P | PTE_W | PTE_A
    and dword [TABLE1], ~(PTE_A | PTE_D)
    invlpg [WINDOW]
    user_fault PF_P | PF_U | PF_W, WINDOW, mov [WINDOW], eax
    check_entry TABLE1, PTE_P | PTE_W                   ; a refused access leaves no trace in the last level
    and dword [TABLE1], ~(PTE_A | PTE_D)
    and dword [TABLE1 + 4], ~(PTE_A | PTE_D)
    mov cr3, ecx
    mov dword [TARGET + 0xffc], 0xaaaaaaaa
    mov dword [TARGET + 0x1000], 0xbbbbbbbb
    mov eax, [WINDOW + 0xffe]                           ; across the pages
    check_eq eax, 0xbbbbaaaa
    check_entry TABLE1, PTE_P | PTE_W | PTE_A
    check_entry TABLE1 + 4, PTE_P | PTE_W | PTE_A
    mov dword [WINDOW + 0xffe], 0x12345678
    check_eq [TARGET + 0xffc], 0x5678aaaa
    check_eq [TARGET + 0x1000], 0xbbbb1234
    check_entry TABLE1, PTE_P | PTE_W | PTE_A | PTE_D
    check_entry TABLE1 + 4, PTE_P | PTE_W | PTE_A | PTE_D

    group "accesses across pages"
    ; covers: accesses across pages
    mov dword [TABLE1 + 4], 0
    invlpg [WINDOW + 0x1000]
    mov eax, 0x99999999
    expect_fault 0, WINDOW + 0x1000, mov eax, [WINDOW + 0xffd]
    check_eq eax, 0x99999999
    expect_fault PF_W, WINDOW + 0x1000, mov [WINDOW + 0xffd], eax
    check_eq [TARGET + 0xffc], 0x5678aaaa               ; nothing of it was written
    expect_fault PF_W, WINDOW + 0x1000, add [WINDOW + 0xfff], ax
    check_eq [TARGET + 0xffc], 0x5678aaaa
    mov dword [user.sp], WINDOW + 0x1002
    user_fault PF_U | PF_W, WINDOW + 0x1000, push word 1
    check_eq [event.sp], WINDOW + 0x1002
    mov dword [user.sp], STACK_TOP
    ; the other way round: the first page is missing
    mov dword [TABLE1 + 4], (TARGET + 0x1000) | PTE_P | PTE_W
    mov dword [TABLE1], 0
    mov cr3, ecx
    expect_fault PF_W, WINDOW + 0xffd, mov [WINDOW + 0xffd], eax
    check_eq [TARGET + 0x1000], 0xbbbb1234
    ; an instruction across the pages
    mov dword [TABLE1], TARGET | PTE_P | PTE_W
    invlpg [WINDOW]
    mov byte [TARGET + 0xffd], 0xb8                     ; MOV EAX, imm32
    mov dword [TARGET + 0xffe], 0x89abcdef
    mov byte [TARGET + 0x1002], 0xc3
    call WINDOW + 0xffd
    check_eq eax, 0x89abcdef
    mov dword [TABLE1 + 4], 0
    invlpg [WINDOW + 0x1000]
    expect_at V_PF, 0, WINDOW + 0xffd, call WINDOW + 0xffd
    add esp, 4
    check_eq [event.cr2], WINDOW + 0x1000
    mov dword [TABLE1 + 4], (TARGET + 0x3000) | PTE_P   ; another second page
    mov byte [TARGET + 0x3000], 0x01
    mov word [TARGET + 0x3001], 0xc3c3
    invlpg [WINDOW + 0x1000]
    call WINDOW + 0xffd
    check_eq eax, 0xc301cdef
    mov dword [TABLE1 + 4], (TARGET + 0x1000) | PTE_P | PTE_W
    invlpg [WINDOW + 0x1000]

    group "translations are kept until INVLPG"
    mov dword [TARGET], 0x11111111
    mov dword [TARGET + 0x2000], 0x77777777
    window PTE_P | PTE_W, PTE_P | PTE_W
    mov eax, [WINDOW]
    check_eq eax, 0x11111111
    mov dword [TABLE1], (TARGET + 0x2000) | PTE_P | PTE_W
    invlpg [WINDOW + 0x123]
    mov eax, [WINDOW]
    check_eq eax, 0x77777777
    mov dword [TABLE1], TARGET | PTE_P | PTE_W
    mov eax, cr3
    mov cr3, eax
    mov eax, [WINDOW]
    check_eq eax, 0x11111111
    mov dword [TABLE1], 0                               ; a page that is taken away and comes back by a fault
    invlpg [WINDOW]
    expect_fault 0, WINDOW, mov eax, [WINDOW]
    mov dword [TABLE1], (TARGET + 0x2000) | PTE_P | PTE_W   ; not present before: needs no INVLPG
    mov eax, [WINDOW]
    check_eq eax, 0x77777777

    group "repeated string instructions"
    ; covers: repeated string instructions
    mov dword [TABLE1], TARGET | PTE_P | PTE_W
    mov dword [TABLE1 + 4], 0
    mov ecx, cr3
    mov cr3, ecx
    mov edi, WINDOW + 0xff0
    mov ecx, 0x40
    mov al, 0x66
    expect_fault PF_W, WINDOW + 0x1000, rep stosb
    check_eq edi, WINDOW + 0x1000
    check_eq ecx, 0x30
    check_eq [TARGET + 0xffc], 0x66666666
    mov dword [TABLE1 + 4], (TARGET + 0x1000) | PTE_P | PTE_W
    rep stosb                                           ; goes on where it was
    check_eq ecx, 0
    check_eq edi, WINDOW + 0x1030
    check_eq [TARGET + 0x102c], 0x66666666
    mov dword [TABLE1 + 4], 0
    invlpg [WINDOW + 0x1000]
    mov esi, WINDOW + 0xffa
    mov edi, TARGET + 0x2000
    mov ecx, 4
    expect_fault 0, WINDOW + 0x1000, rep movsd
    check_eq esi, WINDOW + 0xffe
    check_eq ecx, 3
    check_eq edi, TARGET + 0x2004
    std
    mov edi, WINDOW + 0x7
    mov ecx, 0x20
    mov dword [DIRECTORY + 4], 0
    invlpg [WINDOW - 1]
    expect_fault PF_W, WINDOW - 1, rep stosb
    cld
    mov dword [DIRECTORY + 4], TABLE2 | PTE_P | PTE_W | PTE_U
    check_eq edi, WINDOW - 1
    check_eq ecx, 0x18
    mov esi, WINDOW + 0xffc
    mov edi, TARGET + 0xffc
    mov ecx, 5
    expect_fault 0, WINDOW + 0x1000, repe cmpsb
    check_eq ecx, 1
    check_eq edi, TARGET + 0x1000

    group "4 MiB pages"
    ; covers: CPUID pse, CPUID pse36
    mov dword [DIRECTORY + 8], 0x400000 | PTE_P | PTE_W | PTE_PS    ; without CR4.PSE the bit means nothing
    mov ecx, cr3
    mov cr3, ecx
    mov dword [0x400000], 0                             ; would be the page table
    mov eax, cr4
    or eax, CR4_PSE
    mov cr4, eax
    mov dword [TARGET], 0x10101010
    mov eax, [WINDOW + 0x200000]
    check_eq eax, 0x10101010
    check_entry DIRECTORY + 8, PTE_P | PTE_W | PTE_PS | PTE_A
    mov dword [WINDOW + 0x200000], 0x10101010
    check_entry DIRECTORY + 8, PTE_P | PTE_W | PTE_PS | PTE_A | PTE_D
    user_fault PF_P | PF_U, WINDOW, mov eax, [WINDOW]
    mov dword [DIRECTORY + 8], 0x400000 | PTE_P | PTE_W | PTE_PS | (1 << 21)
    invlpg [WINDOW + 0x300000]
    expect_fault PF_P | PF_R, WINDOW, mov eax, [WINDOW]
    user_fault PF_P | PF_R | PF_U | PF_W, WINDOW, mov [WINDOW], eax
    mov dword [DIRECTORY + 8], 0x400000 | PTE_P | PTE_W | PTE_PS | (1 << 13)   ; 4 GiB beyond it nothing answers
    mov cr3, ecx
    mov eax, [WINDOW + 0x200000]
    check_eq eax, -1
    mov dword [DIRECTORY + 8], 0x400000 | PTE_P | PTE_U | PTE_PS
    mov cr3, ecx
    user_run mov eax, [WINDOW + 0x200000]
    check_eq eax, 0x10101010
    user_fault PF_P | PF_U | PF_W, WINDOW + 0x200000, mov [WINDOW + 0x200000], eax

    group "global pages"
    ; covers: CPUID pge
    mov eax, cr4
    or eax, CR4_PGE
    mov cr4, eax
    mov dword [DIRECTORY + 8], TABLE1 | PTE_P | PTE_W
    mov dword [TABLE1], TARGET | PTE_P | PTE_W | PTE_G
    mov cr3, ecx
    mov dword [TARGET + 0x2000], 0x20202020
    mov eax, [WINDOW]
    check_eq eax, 0x10101010
    mov dword [TABLE1], (TARGET + 0x2000) | PTE_P | PTE_W | PTE_G
    invlpg [WINDOW]                                     ; reaches global pages, too
    mov eax, [WINDOW]
    check_eq eax, 0x20202020
    mov dword [TABLE1], TARGET | PTE_P | PTE_W | PTE_G
    mov eax, cr4
    and eax, ~CR4_PGE
    mov cr4, eax
    or eax, CR4_PGE
    mov cr4, eax
    mov eax, [WINDOW]
    check_eq eax, 0x10101010

    group "tables are read through linear addresses nobody maps"
    mov dword [DIRECTORY], 0x000000 | PTE_P | PTE_W | PTE_U | PTE_PS
    mov cr3, ecx
    mov dword [TABLE1], 0x12345000 | PTE_P | PTE_W      ; RAM ends at 64 MiB: reads as ones, writes go nowhere
    invlpg [WINDOW]
    mov eax, [WINDOW]
    expect_nothing mov dword [WINDOW], 1

    group "paging off and on"
    mov eax, cr0
    and eax, ~CR0_PG
    mov cr0, eax
    mov dword [WINDOW], 0x98989898
    mov ebx, [WINDOW]
    or eax, CR0_PG
    mov dword [TABLE1], TARGET | PTE_P | PTE_W
    mov cr0, eax
    check_eq ebx, 0x98989898
    mov ebx, [WINDOW]
    check_eq ebx, 0x10101010
    finish
