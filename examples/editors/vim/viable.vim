" Viable for Vim 8.2+ and Neovim with ALE (https://github.com/dense-analysis/ale):
"
"   source /path/to/viable.vim
"
" Suggestions come in ALE's completion menu, as Vim has no ghost text of the protocol.

if !exists('g:viable_command')
  let g:viable_command = ['viable', 'lsp']
endif
if !exists('g:viable_options')
  let g:viable_options = {}
endif

function! s:Command(buffer) abort
  return join(map(copy(g:viable_command), 'ale#Escape(v:val)'))
endfunction

function! s:Define() abort
  call ale#linter#Define('python', {
  \   'name': 'viable',
  \   'lsp': 'stdio',
  \   'executable': {buffer -> g:viable_command[0]},
  \   'command': function('s:Command'),
  \   'project_root': {buffer -> ale#python#FindProjectRootIni(buffer) ?? fnamemodify(bufname(buffer), ':p:h')},
  \   'initialization_options': {buffer -> g:viable_options},
  \})
endfunction

let g:ale_completion_enabled = 1
let g:ale_completion_autoimport = 0
let s:linters = get(g:, 'ale_linters', {})
let s:linters.python = uniq(sort(get(s:linters, 'python', []) + ['viable']))
let g:ale_linters = s:linters

augroup viable
  autocmd!
  autocmd FileType python call s:Define()
augroup END
