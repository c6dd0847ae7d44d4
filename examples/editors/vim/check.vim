" Run viable.vim in a real Vim with ALE:
"
"   vim -Nu NONE -S examples/editors/vim/check.vim
"
" It needs a terminal; in tmux it can run unseen. --cmd 'let g:viable_command = ["python", "-m", "tests.lsp.fake"]' names
" another server, which has to write what its file asks for, as that one does. Ends in assertions: exit code 0 when they
" hold, 1 with the failures on stderr.

set nocompatible hidden
filetype plugin on
execute 'set runtimepath^=' . get(g:, 'ale_path', '/usr/share/vim-ale')
let g:ale_linters_explicit = 1
runtime plugin/ale.vim
execute 'source' expand('<sfile>:p:h') . '/viable.vim'

let s:file = tempname() . '.py'
call writefile(['#> "alue = 12"', 'v'], s:file)
execute 'edit' s:file
setfiletype python

function! s:Finish() abort
  stopinsert
  call delete(s:file)
  if !empty(v:errors)
    call writefile(v:errors, '/dev/stderr')
    cquit
  endif
  qall!
endfunction

let s:answered = 0
function! s:Take(items) abort
  let s:answered = 1
  call assert_equal(['value = 12'], map(copy(a:items), 'v:val.word'))
  call s:Finish()
endfunction

" What ALE does when the user completes; here the answer comes to a function instead of the menu.
function! s:Ask(...) abort
  call ale#completion#GetCompletions('ale-callback', {'callback': function('s:Take')})
endfunction

function! s:GiveUp(...) abort
  call assert_equal(1, s:answered, 'no answer in ten seconds')
  call s:Finish()
endfunction

call timer_start(500, function('s:Ask'))
call timer_start(10000, function('s:GiveUp'))
call feedkeys('GA', 'n')
