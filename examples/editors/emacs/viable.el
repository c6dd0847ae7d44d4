;;; viable.el --- Python suggestions that parse, through eglot  -*- lexical-binding: t; -*-

;; Emacs 28 with eglot from GNU ELPA, or Emacs 29 and later, which has eglot built in:
;;
;;   (load "/path/to/viable.el")
;;   (add-hook 'python-mode-hook #'eglot-ensure)
;;   (add-hook 'python-mode-hook #'viable-mode)
;;
;; eglot's own completion (C-M-i, company, corfu) offers the suggestion as an entry.  viable-mode adds ghost text:
;; M-\ asks for it, TAB takes it, M-<right> and M-<down> take it up to the next word or line after which the file
;; parses, C-g drops it.

;;; Code:

(require 'eglot)

(add-to-list 'eglot-server-programs '((python-mode python-ts-mode) . ("viable" "lsp")))

(defface viable-ghost '((t :inherit shadow)) "Face of suggestions." :group 'eglot)

(defvar-local viable--overlay nil "Overlay that shows a suggestion; its property `viable-text' holds the text.")

(defvar viable-shown-map
  (let ((map (make-sparse-keymap)))
    (define-key map (kbd "TAB") #'viable-accept)
    (define-key map (kbd "<tab>") #'viable-accept)
    (define-key map (kbd "M-<right>") #'viable-accept-word)
    (define-key map (kbd "M-<down>") #'viable-accept-line)
    (define-key map (kbd "C-g") #'viable-dismiss)
    map)
  "Keys while a suggestion is shown.")
(add-to-list 'minor-mode-map-alist (cons 'viable--overlay viable-shown-map))

(defun viable-text ()
  "The suggestion that is shown, or nil."
  (and viable--overlay (overlay-get viable--overlay 'viable-text)))

(defun viable-dismiss ()
  "Drop the suggestion."
  (interactive)
  (when viable--overlay
    (delete-overlay viable--overlay)
    (setq viable--overlay nil)))

(defun viable--show (text)
  "Show TEXT as ghost text at point."
  (viable-dismiss)
  (unless (string-empty-p text)
    (setq viable--overlay (make-overlay (point) (point) nil t))
    (overlay-put viable--overlay 'viable-text text)
    (overlay-put viable--overlay 'after-string
                 (propertize text 'face 'viable-ghost 'cursor t))))

(defun viable-suggest ()
  "Ask for a suggestion at point."
  (interactive)
  (let* ((server (eglot--current-server-or-lose))
         (params (append (eglot--TextDocumentPositionParams) '(:context (:triggerKind 1))))
         (buffer (current-buffer))
         (place (point))
         (tick (buffer-chars-modified-tick)))
    (eglot--signal-textDocument/didChange)
    (jsonrpc-async-request
     server :textDocument/inlineCompletion params
     :success-fn
     (lambda (result)
       (when (buffer-live-p buffer)
         (with-current-buffer buffer
           (when (and (= place (point)) (= tick (buffer-chars-modified-tick)))
             (let ((items (append (plist-get result :items) nil)))
               (if items
                   (viable--show (replace-regexp-in-string "\r\n" "\n" (plist-get (car items) :insertText)))
                 (message "Nothing to suggest here")))))))
     :error-fn (lambda (error) (message "Viable: %s" (plist-get error :message)))
     :timeout 60)))

(defun viable--take (length)
  "Insert the first LENGTH characters of the suggestion and keep the rest in view."
  (let ((text (viable-text)))
    (viable-dismiss)
    (when text
      (insert (substring text 0 length))
      (viable--show (substring text length)))))

(defun viable-accept ()
  "Take all of the suggestion."
  (interactive)
  (viable--take (length (or (viable-text) ""))))

(defun viable--accept-part (kind)
  "Take the suggestion up to the next KIND, \"word\" or \"line\", after which the file parses."
  (when-let ((text (viable-text)))
    (eglot--signal-textDocument/didChange)
    (let* ((params (append (eglot--TextDocumentPositionParams) (list :text text :kind kind)))
           (answer (jsonrpc-request (eglot--current-server-or-lose) :viable/nextStop params))
           (units (plist-get answer :length))
           (length 0))
      ;; The server counts in UTF-16, as eglot does: a character beyond the basic plane is two.
      (while (and (> units 0) (< length (length text)))
        (setq units (- units (if (> (aref text length) #xffff) 2 1))
              length (1+ length)))
      (viable--take length))))

(defun viable-accept-word ()
  "Take the suggestion up to the next word after which the file parses."
  (interactive)
  (viable--accept-part "word"))

(defun viable-accept-line ()
  "Take the suggestion up to the next line after which the file parses."
  (interactive)
  (viable--accept-part "line"))

;;;###autoload
(define-minor-mode viable-mode
  "Ghost text from Viable."
  :lighter " Viable"
  :keymap (let ((map (make-sparse-keymap))) (define-key map (kbd "M-\\") #'viable-suggest) map)
  (if viable-mode
      (add-hook 'post-command-hook #'viable--tidy nil t)
    (remove-hook 'post-command-hook #'viable--tidy t)
    (viable-dismiss)))

(defun viable--tidy ()
  "Drop a suggestion that point has left."
  (when (and viable--overlay (/= (point) (overlay-start viable--overlay)))
    (viable-dismiss)))

(provide 'viable)
;;; viable.el ends here
