;;; check.el --- Run viable.el in a real Emacs  -*- lexical-binding: t; -*-

;; PYTHONPATH=$PWD emacs --batch -Q -l examples/editors/emacs/check.el -- COMMAND...
;;
;; COMMAND starts a server that writes what its file asks for: `python -m tests.lsp.fake'.  Ends in assertions; exit
;; code 0 when they hold.

(require 'package)
(add-to-list 'package-directory-list "/usr/share/emacs/site-lisp/elpa") ; where Debian puts eglot for Emacs 28
(package-initialize)
(require 'cl-lib)
(load (expand-file-name "viable.el" (file-name-directory load-file-name)))

(when (member "--" command-line-args)
  (setf (alist-get '(python-mode python-ts-mode) eglot-server-programs nil nil #'equal)
        (cdr (member "--" command-line-args)))
  (setq command-line-args-left nil))

(defun check-wait (test)
  "Let Emacs work until TEST gives something, ten seconds at most."
  (let ((tries 200) found)
    (while (and (not (setq found (funcall test))) (> (setq tries (1- tries)) 0))
      (accept-process-output nil 0.05))
    found))

(let* ((folder (make-temp-file "viable" t))
       (file (expand-file-name "check.py" folder))
       (eglot-sync-connect t))
  (with-temp-file file (insert "#> \"alue = f(1)\\nother = '\\ud83d\\ude00'\"\nv"))
  (find-file file)
  (eglot-ensure)
  (run-hooks 'post-command-hook)
  (cl-assert (check-wait #'eglot-current-server))
  (viable-mode 1)
  (goto-char (point-max))
  (viable-suggest)
  (cl-assert (equal (check-wait #'viable-text) "alue = f(1)\nother = '😀'"))
  (with-temp-buffer (run-hooks 'pre-command-hook 'post-command-hook)) ; a command in another buffer
  (cl-assert (eq (key-binding (kbd "M-<right>")) #'viable-accept-word))
  (viable-accept-word)
  (cl-assert (equal (buffer-substring (line-beginning-position) (point)) "value"))
  (viable-accept-line)
  (cl-assert (equal (buffer-substring (line-beginning-position) (point)) "value = f(1)"))
  (cl-assert (equal (viable-text) "\nother = '😀'"))
  (viable-accept)
  (cl-assert (equal (buffer-substring (line-beginning-position) (point)) "other = '😀'"))
  (cl-assert (null (viable-text)))
  (cl-assert (not (eq (key-binding (kbd "TAB")) #'viable-accept)))
  (eglot-shutdown (eglot-current-server))
  (set-buffer-modified-p nil)
  (delete-directory folder t)
  (message "viable.el: all well"))
;;; check.el ends here
