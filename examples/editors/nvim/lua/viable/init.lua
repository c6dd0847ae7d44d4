-- Viable for Neovim 0.10 and later: starts `viable lsp` for Python files and shows its suggestions as ghost text.
--
--   require("viable").setup({})          -- see `defaults` for what can be set
--
-- From Neovim 0.12 on the editor's own vim.lsp.inline_completion draws the text; below it ghost.lua does.

local M = {}

M.defaults = {
  cmd = { "viable", "lsp" },
  filetypes = { "python" },
  root_markers = { "viable.toml", "pyproject.toml", "setup.py", ".git" },
  -- Suggestions while typing. Without, `keys.trigger` asks for them.
  auto = true,
  -- Options of the server: model, maxTokens, maxMs, debounceMs, exclude = { "**/secrets/*.py" }, ...
  options = {},
  -- false leaves a key alone.
  keys = {
    accept = "<Tab>",
    accept_word = "<M-Right>",
    accept_line = "<M-Down>",
    dismiss = "<C-]>",
    next = "<M-]>",
    previous = "<M-[>",
    trigger = "<M-\\>",
  },
}

M.config = M.defaults

-- How often a server that has crashed is followed by another without the user's asking.
local LIVES = 3
local lives = LIVES

local function builtin()
  return vim.lsp.inline_completion
end

-- What each key does; true where it did something, so that the key need not do what it does otherwise.
local function actions()
  local ghost = require("viable.ghost")
  if not builtin() then
    return {
      accept = ghost.accept,
      accept_word = ghost.accept_word,
      accept_line = ghost.accept_line,
      dismiss = ghost.dismiss,
      next = function() return ghost.turn(1) end,
      previous = function() return ghost.turn(-1) end,
      trigger = function() return ghost.request(true) end,
    }
  end
  return {
    accept = function() return builtin().get() end,
    next = function() builtin().select({ count = 1 }) return true end,
    previous = function() builtin().select({ count = -1 }) return true end,
  }
end

local function map_keys(buffer)
  for name, action in pairs(actions()) do
    local key = M.config.keys[name]
    if key then
      vim.keymap.set("i", key, function()
        if not action() then
          vim.api.nvim_feedkeys(vim.api.nvim_replace_termcodes(key, true, false, true), "in", false)
        end
      end, { buffer = buffer, desc = "viable: " .. name:gsub("_", " ") })
    end
  end
end

local start_all, start

local function serves(buffer)
  return vim.api.nvim_buf_is_loaded(buffer) and vim.tbl_contains(M.config.filetypes, vim.bo[buffer].filetype)
end

-- A file that gets another name is another file to the server. An unnamed one is wiped out when it gets its first.
local function follow_name(client, buffer)
  local group = vim.api.nvim_create_augroup("viable.name." .. buffer, {})
  vim.api.nvim_create_autocmd({ "BufFilePre", "BufWipeout" }, {
    group = group,
    buffer = buffer,
    callback = function()
      if client.attached_buffers[buffer] then
        vim.lsp.buf_detach_client(buffer, client.id)
        vim.schedule(function()
          if serves(buffer) then
            start(buffer)
          end
        end)
      end
    end,
  })
end

local function attached(client, buffer)
  map_keys(buffer)
  follow_name(client, buffer)
  if builtin() then
    builtin().enable(M.config.auto, { bufnr = buffer, client_id = client.id })
  else
    require("viable.ghost").attach(client, buffer, M.config.auto)
  end
end

function start(buffer)
  local began = false -- one that does not get as far is set up wrongly, and another would be
  local root = vim.fs.root(buffer, M.config.root_markers) or vim.fn.getcwd()
  local capabilities = vim.lsp.protocol.make_client_capabilities()
  capabilities.general.positionEncodings = { "utf-8" } -- columns are bytes, as in Neovim itself
  capabilities.textDocument.inlineCompletion = { dynamicRegistration = false }
  local options = vim.tbl_extend("keep", M.config.options, { popup = false })
  vim.lsp.start({
    name = "viable",
    cmd = M.config.cmd,
    root_dir = root,
    capabilities = capabilities,
    init_options = options,
    on_init = function() began = true end,
    on_attach = attached,
    on_exit = vim.schedule_wrap(function(code, signal, id)
      require("viable.ghost").forget(id)
      local crashed = code ~= 0 or (signal ~= 0 and signal ~= 15) -- 15 ends it by the user's wish
      if not crashed or vim.v.exiting ~= vim.NIL then
        return
      elseif began and lives > 0 then
        lives = lives - 1
        start_all()
      else
        vim.notify("viable: the server has ended; :ViableLog says why, :ViableRestart starts another", vim.log.levels.WARN)
      end
    end),
  }, { bufnr = buffer })
end

-- Serve all files that are open; those that are served already stay with their server.
function start_all()
  for _, buffer in ipairs(vim.api.nvim_list_bufs()) do
    if serves(buffer) then
      start(buffer)
    end
  end
end

function M.client(buffer)
  return vim.lsp.get_clients({ name = "viable", bufnr = buffer or 0 })[1]
end

-- Counters of the server, for a look behind the scenes: :lua vim.print(require("viable").stats())
function M.stats()
  local client = M.client()
  local answer = client and vim.lsp.buf_request_sync(0, "viable/stats", {}, 1000)
  return answer and answer[client.id] and answer[client.id].result
end

function M.setup(config)
  M.config = vim.tbl_deep_extend("force", M.defaults, config or {})
  vim.api.nvim_set_hl(0, "ViableGhost", { link = "Comment", default = true })
  local group = vim.api.nvim_create_augroup("viable", {})
  vim.api.nvim_create_autocmd("FileType", {
    group = group,
    pattern = M.config.filetypes,
    callback = function(event) start(event.buf) end,
  })
  vim.api.nvim_create_user_command("ViableRestart", function()
    if M.client() then
      vim.lsp.buf_request(0, "workspace/executeCommand", { command = "viable.restart" }, function() end)
    else
      lives = LIVES
      start_all()
    end
  end, { desc = "Load Viable's model anew, in a new server if there is none" })
  vim.api.nvim_create_user_command("ViableLog", function() vim.cmd.tabedit(vim.lsp.get_log_path()) end, {})
  start_all()
end

return M
